"""FD: the Frechet distance of two Gaussians that have the moments of two sets of features.

    FD = |mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))        Heusel et al. 2017, eq. 6

FD is biased upwards: two samples of one distribution are apart. For independent samples of n and m
images of a Gaussian with eigenvalues l_i of its covariance, to leading order in 1/n and 1/m,

    E FD = (1/n + 1/m) (sum_i l_i + 1/2 sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j))
        <= (1/n + 1/m) sum_i l_i (d + 5) / 4

The sum over ij is the second derivative of the distance of two covariances against the variance of
a sample covariance (Wishart); equality holds where all l_i are equal. With n, m >= 10 d the bias is
at most (d + 5) / (20 d) of the variance of the features, about 5 %. Below that FD is refused.
Compare FD only at equal numbers of images. KID has no such bias at any number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.feature_sets import check_index, checked
from fewstep.evaluate.statistics import Draws, Index, Weights

Array = NDArray[np.float64]

IMAGES_PER_WIDTH = 10
"""Least images for each dimension of the features, on either side."""

WIDEST_RESAMPLED = 256
"""Wider features get no interval: a resample is two eigenvalue problems, seconds each at 2048."""


def frechet(x: NDArray, index_x: Index, y: NDArray, index_y: Index, weights: Weights) -> Draws:
    """Draws of FD between model features x, (n, d), and reference features y, (m, d).

    A resample repeats images and so has the bias of FD once more. The draws are moved back by the
    mean of that excess: the interval is one for FD at this number of images, bias included. Where
    d > 256 all draws but the value are NaN, so that `estimate` gives no interval. ValueError below
    10 d images on a side.
    """
    x, y = checked(x, y)
    for side, features, index in (("model", x, index_x), ("reference", y, index_y)):
        check_index(side, features, index)
        if len(features) < (least := IMAGES_PER_WIDTH * features.shape[1]):
            raise ValueError(
                f"FD of features of width {features.shape[1]} needs at least {least} images on a "
                f"side, the {side} has {len(features)}: draw more, or use KID, which has no bias"
            )
    draws = np.full(len(weights), np.nan)
    wanted = weights if x.shape[1] <= WIDEST_RESAMPLED else weights[:1]
    for row, weight in enumerate(wanted):
        draws[row] = _distance(*_moments(x, weight[index_x]), *_moments(y, weight[index_y]))
    if len(draws) > 1:
        draws[1:] += draws[0] - draws[1:].mean()
    return draws


def same_distribution(y: NDArray, n_x: int, n_y: int) -> float:
    """The FD to expect of independent samples of n_x and n_y images of one distribution.

    To leading order for a Gaussian with the covariance of the features y, (m, d). Images of shared
    prompts are not independent, which changes the figure.
    """
    values = np.linalg.eigvalsh(np.cov(y.astype(np.float64), rowvar=False).reshape(y.shape[1], -1))
    values = values[values > values.max() * 1e-12]
    products = np.outer(values, values) / np.add.outer(values, values)
    covariance = (products.sum() + products.trace()) / 2
    return float((1 / n_x + 1 / n_y) * (values.sum() + covariance))


def _moments(x: Array, weight: Array) -> tuple[Array, Array]:
    """Mean and covariance of rows that are repeated `weight` times."""
    total = weight.sum()
    mean = weight @ x / total
    centred = x - mean
    return mean, (centred * weight[:, None]).T @ centred / (total - 1)


def _distance(mean_x: Array, cov_x: Array, mean_y: Array, cov_y: Array) -> float:
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(np.maximum(values, 0))
    # the eigenvalues of S_x S_y are those of this symmetric matrix
    products = np.linalg.eigvalsh(root.T @ cov_y @ root)
    trace_of_root = np.sqrt(np.maximum(products, 0)).sum()
    shift = ((mean_x - mean_y) ** 2).sum()
    return float(shift + np.trace(cov_x) + np.trace(cov_y) - 2 * trace_of_root)
