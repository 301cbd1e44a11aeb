"""The metrics against other packages, on random features: the largest relative difference.

    python -m benchmarks.oracles --results results

Runs where torch-fidelity, torchmetrics with its image extra, scikit-learn and scipy are installed,
none of which the project needs. tests/oracle makes the same comparisons one by one and skips those
whose package is missing. The record is `measure.oracle_max_error`. A few seconds.

Features are float64 everywhere. The others' KID and FD see sets of equal numbers, as these packages
want them. Precision and recall agree with torch-fidelity in counting a ball's edge as inside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from benchmarks.common import claim, facts
from numpy.typing import NDArray

from fewstep import claims
from fewstep.evaluate.fidelity import cmmd, cmmd_kernels, kid, kid_standard, prompt_kernels
from fewstep.evaluate.frechet import frechet
from fewstep.evaluate.neighbours import neighbours
from fewstep.evaluate.statistics import Estimate

Array = NDArray[np.float64]
Comparison = Callable[[Array, Array], list[tuple[float, float]]]
"""Two sets of features, (n, d) each, to pairs of our value and the other's."""

PACKAGES = ("torch-fidelity", "torchmetrics", "scikit-learn", "scipy")
NEAREST = 3
FLOAT32 = "neighbours_torch_fidelity"
"""This package takes the mean over images in float32, whatever the features are."""


def ours(estimator: Callable, kernels: Callable, x: Array, y: Array) -> float:
    """Every image has a prompt of its own, which the sets share."""
    index = np.arange(len(x))
    return float(estimator(kernels(x, index, y, index), np.ones((1, len(x))))[0])


def fd(x: Array, y: Array) -> float:
    index = np.arange(len(x))
    return float(frechet(x, index, y, index, np.ones((1, len(x))))[0])


def kid_torchmetrics(x: Array, y: Array) -> list[tuple[float, float]]:
    """The whole metric with one subset that holds everything."""
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(torch.nn.Identity(), subsets=1, subset_size=len(x))
    metric.update(torch.from_numpy(y), real=True)
    metric.update(torch.from_numpy(x), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the order of the images is drawn from the global generator
        theirs = metric.compute()[0].item()
    return [(ours(kid_standard, prompt_kernels, x, y), theirs)]


def kid_torch_fidelity(x: Array, y: Array) -> list[tuple[float, float]]:
    """Its estimator over all pairs; and its "u-statistic", which leaves out the pairs of equal row
    between the sets, as ours leaves out those of one prompt."""
    from torch_fidelity.metric_kid import kernel_poly, mmd2  # pyright: ignore

    how = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1.0}
    theirs = kernel_poly(x, x, **how), kernel_poly(x, y, **how), kernel_poly(y, y, **how)
    return [
        (ours(kid_standard, prompt_kernels, x, y), mmd2(*theirs, mmd_est="unbiased")),
        (ours(kid, prompt_kernels, x, y), mmd2(*theirs, mmd_est="u-statistic")),
    ]


def cmmd_torch_fidelity(x: Array, y: Array) -> list[tuple[float, float]]:
    """Its Gaussian kernel and "u-statistic" on features of length 1, times 1000."""
    from torch_fidelity.metric_kid import kernel_rbf, mmd2  # pyright: ignore

    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    k = [kernel_rbf(u, v, kid_kernel_rbf_sigma=10.0) for u, v in ((a, a), (a, b), (b, b))]
    return [(ours(cmmd, cmmd_kernels, x, y), 1000 * mmd2(*k, mmd_est="u-statistic"))]


def fd_torchmetrics(x: Array, y: Array) -> list[tuple[float, float]]:
    import torch
    from torchmetrics.image.fid import _compute_fid

    stats = [(v.mean(0), np.cov(v, rowvar=False)) for v in (x, y)]
    theirs = _compute_fid(*(torch.from_numpy(part) for moments in stats for part in moments))
    return [(fd(x, y), theirs.item())]


def fd_torch_fidelity(x: Array, y: Array) -> list[tuple[float, float]]:
    import torch
    from torch_fidelity.metric_fid import (  # pyright: ignore
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    stats = [fid_features_to_statistics(torch.from_numpy(v)) for v in (x, y)]
    return [(fd(x, y), fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID])]


def fd_scipy(x: Array, y: Array) -> list[tuple[float, float]]:
    """The formula by scipy's root of a matrix."""
    from scipy.linalg import sqrtm  # pyright: ignore

    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(np.trace(sqrtm(a @ b)))
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    return [(fd(x, y), float(shift + np.trace(a) + np.trace(b) - 2 * root))]


def neighbours_torch_fidelity(x: Array, y: Array) -> list[tuple[float, float]]:
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric  # pyright: ignore

    found = neighbours(x, y, NEAREST)
    pair = torch.from_numpy(x), torch.from_numpy(y)
    theirs = prc_features_to_metric(
        *pair, prc_neighborhood=NEAREST, prc_batch_size=64, save_cpu_ram=False, verbose=False
    )
    return [(getattr(found, name).mean(), theirs[name]) for name in ("precision", "recall")]


def neighbours_sklearn(x: Array, y: Array) -> list[tuple[float, float]]:
    """All four from scikit-learn's neighbours. It leaves open what happens at a ball's edge, which
    no pair of random features lies on."""
    from sklearn.neighbors import NearestNeighbors  # pyright: ignore

    def inside(a: Array, b: Array) -> Array:
        """(len(a), len(b)): whether row i of a is in the ball of row j of b."""
        # without arguments a row is no neighbour of its own
        reach = NearestNeighbors(n_neighbors=NEAREST).fit(b).kneighbors()[0][:, -1]
        distances, rows = NearestNeighbors(n_neighbors=len(b)).fit(b).kneighbors(a)
        full = np.empty_like(distances)
        np.put_along_axis(full, rows, distances, axis=1)
        return full <= reach

    found, in_y, in_x = neighbours(x, y, NEAREST), inside(x, y), inside(y, x)
    return [
        (found.precision.mean(), in_y.any(1).mean()),
        (found.recall.mean(), in_x.any(1).mean()),
        (found.density.mean(), in_y.sum() / (NEAREST * len(x))),
        (found.coverage.mean(), in_y.any(0).mean()),
    ]


COMPARISONS: Mapping[str, Comparison] = {
    f.__name__: f
    for f in (
        kid_torchmetrics, kid_torch_fidelity, cmmd_torch_fidelity, fd_torchmetrics,
        fd_torch_fidelity, fd_scipy, neighbours_torch_fidelity, neighbours_sklearn,
    )
}  # fmt: skip

SETS = {
    "independent": (400, 16, 0.3),
    "close": (600, 24, 0.05),
    "wide": (1000, 96, 0.1),
}
"""Images, width and shift of the mean."""


def features(name: str) -> tuple[Array, Array]:
    """Correlated features that are never negative, as those of a network after its last ReLU."""
    n, d, shift = SETS[name]
    rng = np.random.default_rng(len(name))
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    x, y = (np.maximum(rng.normal(size=(n, d)) @ mix + s, 0) for s in (shift, 0.0))
    return x, y


def error(comparison: Comparison, name: str) -> float:
    """Largest relative difference on one pair of sets; NaN if any value is NaN."""
    found, expected = np.array(comparison(*features(name))).T
    return float(np.max(np.abs(found - expected) / np.abs(expected)))


def main() -> None:
    parser = argparse.ArgumentParser(description="The metrics against other packages.")
    parser.add_argument("--results", type=Path, help="folder to write the record to")
    args = parser.parse_args()
    errors = {
        f"{key} ({name})": error(comparison, name)
        for key, comparison in COMPARISONS.items()
        for name in SETS
    }
    for key, found in errors.items():
        print(f"{found:.1e}  {key}")
    if not np.isfinite([*errors.values()]).all():
        raise FloatingPointError("a comparison is not finite: see the lines above")
    if args.results is None:
        return
    worst = max(errors, key=lambda key: errors[key])
    made = facts("python -m benchmarks.oracles --results results", 1)
    made["versions"] |= {package: version(package) for package in PACKAGES}
    values = sum(len(f(*features(name))) for f in COMPARISONS.values() for name in SETS)
    record = claim(
        "oracle_max_error", "largest relative difference of KID, CMMD, FD, precision, recall, "
        "density and coverage from other packages",
        Estimate(errors[worst], float("nan"), float("nan"), 0, 0), made=made, n=values,
        goal="<= 0.000001", area="measure",
        note=f"n = values compared, on {len(SETS)} pairs of feature sets; largest in {worst}; "
        "without torch-fidelity's precision and recall, which are float32 means, "
        f"{max(v for k, v in errors.items() if not k.startswith(FLOAT32)):.1e}",
    )  # fmt: skip
    print(f"wrote {claims.write([record], 'measure', args.results)}")


if __name__ == "__main__":
    main()
