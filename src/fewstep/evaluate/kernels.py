"""Kernel distances between two image sets whose images belong to prompts.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)        x, x' and y, y' independent

Two images of one prompt are more alike than independent images. When both sets were made from the
same prompts, the share of such pairs is (s - 1) / (P s - 1) within a set of P prompts x s seeds and
1 / P between the sets. The two do not cancel, so the estimator over all pairs (`all_pairs`, the
usual one) has the bias

    -2 (K_same - K_different) (P - 1) / (P (P s - 1))

with K_same, K_different the mean kernel of pairs of one and of two prompts. `between_prompts` drops
pairs within a prompt from all three means and has none. Images without a prompt in common are
served too: give each image an index of its own.

Kernels are summed within pairs of prompts once. A bootstrap over prompts is then a few products of
small matrices, for either estimator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.feature_sets import check_index, checked, square_distances
from fewstep.evaluate.statistics import Draws, Index, Weights, divide

Array = NDArray[np.float64]
Kernel = Callable[[Array, Array], Array]
"""(n, d) and (m, d) features to (n, m) values."""

MIN_PROMPTS = 8
"""Fewer prompts give an interval that means nothing."""

SLAB = 1024
"""Rows of a kernel that are held at a time."""


def cubic(x: Array, y: Array) -> Array:
    """(x . y / d + 1)^3, the kernel of KID: Binkowski et al. 2018, arXiv:1801.01401, section 4."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base


def gaussian(x: Array, y: Array, sigma: float = 10.0) -> Array:
    """exp(-|x - y|^2 / (2 sigma^2)); sigma = 10 is that of CMMD."""
    return np.exp(-square_distances(x, y) / (2 * sigma**2))


@dataclass(frozen=True)
class PromptKernels:
    """Sums of the kernel by prompt, and image counts; x is the model, y the reference.

    `xx`, `yy`, `xy`, (P, P), hold the pairs of images of two prompts, with a zero diagonal.
    `own_*`, (P,), hold the pairs within a prompt, where no image is paired with itself.
    """

    xx: Array
    yy: Array
    xy: Array
    own_xx: Array
    own_yy: Array
    own_xy: Array
    n_x: Array
    n_y: Array


@dataclass(frozen=True)
class _Grouped:
    """Features in the order of their prompts: the rows from starts[i] on are of present[i]."""

    features: Array
    present: Index
    starts: Index


def prompt_kernels(
    x: NDArray, index_x: Index, y: NDArray, index_y: Index, kernel: Kernel = cubic
) -> PromptKernels:
    """Kernels of model features x, (n, d), and reference features y, (m, d).

    `index_*` numbers each image's prompt from 0; the same number in both means the same prompt.
    """
    x, y = checked(x, y)
    for side, features, index in (("model", x, index_x), ("reference", y, index_y)):
        check_index(side, features, index)
        if (found := len(np.unique(index))) < MIN_PROMPTS:
            raise ValueError(
                f"KID and CMMD need at least {MIN_PROMPTS} prompts, the {side} has {found}: "
                "ask for more"
            )
    n_prompts = int(max(index_x.max(), index_y.max())) + 1
    of_x, of_y = _grouped(x, index_x), _grouped(y, index_y)
    xx, own_xx = _sums(of_x, of_x, n_prompts, kernel)
    yy, own_yy = _sums(of_y, of_y, n_prompts, kernel)
    xy, own_xy = _sums(of_x, of_y, n_prompts, kernel)
    return PromptKernels(
        xx=xx, yy=yy, xy=xy, own_xx=own_xx, own_yy=own_yy, own_xy=own_xy,
        n_x=np.bincount(index_x, minlength=n_prompts).astype(np.float64),
        n_y=np.bincount(index_y, minlength=n_prompts).astype(np.float64),
    )  # fmt: skip


def _grouped(features: Array, index: Index) -> _Grouped:
    order = np.argsort(index, kind="stable")
    present, starts = np.unique(index[order], return_index=True)
    return _Grouped(features[order], present, starts)


def _sums(x: _Grouped, y: _Grouped, n_prompts: int, kernel: Kernel) -> tuple[Array, Array]:
    by_column = np.empty((len(x.features), len(y.present)))
    for start in range(0, len(x.features), SLAB):
        values = kernel(x.features[start : start + SLAB], y.features)
        if x is y:
            np.fill_diagonal(values[:, start:], 0)
        by_column[start : start + SLAB] = np.add.reduceat(values, y.starts, axis=1)
    sums = np.zeros((n_prompts, n_prompts))
    sums[np.ix_(x.present, y.present)] = np.add.reduceat(by_column, x.starts, axis=0)
    own = sums.diagonal().copy()
    np.fill_diagonal(sums, 0)
    return sums, own


def between_prompts(kernels: PromptKernels, weights: Weights) -> Draws:
    """Draws of the squared MMD over pairs of different prompts: unbiased with shared prompts."""
    k, none, one = kernels, np.zeros(len(kernels.n_x)), np.ones(len(kernels.n_x))
    if np.ptp(k.n_x) == np.ptp(k.n_y) == 0:
        # with equal counts the three means have one denominator: a third of the products
        a, b = k.n_x[0], k.n_y[0]
        return _mean(k.xx / a**2 + k.yy / b**2 - 2 * k.xy / (a * b), none, one, one, none, weights)
    return (
        _mean(k.xx, none, k.n_x, k.n_x, none, weights)
        + _mean(k.yy, none, k.n_y, k.n_y, none, weights)
        - 2 * _mean(k.xy, none, k.n_x, k.n_y, none, weights)
    )


def all_pairs(kernels: PromptKernels, weights: Weights) -> Draws:
    """Draws of the standard U-statistic (Binkowski et al. 2018, eq. 4): all pairs i != j of a set,
    all pairs between the sets. Biased downwards where the sets share prompts.

    In a resample two copies of a prompt are not paired: their images are no two independent draws.
    """
    k = kernels
    return (
        _mean(k.xx, k.own_xx, k.n_x, k.n_x, k.n_x * (k.n_x - 1), weights)
        + _mean(k.yy, k.own_yy, k.n_y, k.n_y, k.n_y * (k.n_y - 1), weights)
        - 2 * _mean(k.xy, k.own_xy, k.n_x, k.n_y, k.n_x * k.n_y, weights)
    )


def _mean(sums: Array, own: Array, n_x: Array, n_y: Array, n_own: Array, weights: Weights) -> Draws:
    """Mean over pairs of two prompts and, as far as n_own counts them, of one."""
    total = ((weights @ sums) * weights).sum(1) + weights @ own
    pairs = (weights @ n_x) * (weights @ n_y) - weights**2 @ (n_x * n_y) + weights @ n_own
    return divide(total, pairs)
