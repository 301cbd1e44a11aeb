"""KID (kernel inception distance) between two image sets that share their prompts.

    k(x, y) = (x . y / d + 1)^3
    KID     = E k(x, x') + E k(y, y') - 2 E k(x, y)      over pairs of *different* prompts

The kernel and the unbiased estimator are of Binkowski et al. 2018 (arXiv:1801.01401). Two images
of one prompt are more alike than independent images, so pairs within a prompt bias the usual
estimator downwards when both sets were made from the same prompts; they are dropped from all three
sums. Images without a prompt in common are served too: give each image an index of its own.

Kernels are summed within pairs of prompts once; a bootstrap over prompts is then a few products of
small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.statistics import Draws, Index, Weights, divide

MIN_PROMPTS = 8
"""Fewer prompts give an interval that means nothing."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PromptKernels:
    """Sums of the kernel between prompts p and q, (P, P), zero on the diagonal; and image counts.

    x is the model, y the reference.
    """

    xx: Array
    yy: Array
    xy: Array
    n_x: Array
    n_y: Array


def prompt_kernels(x: Array, index_x: Index, y: Array, index_y: Index) -> PromptKernels:
    """Kernels of model features x, (n, d), and reference features y, (m, d).

    `index_*` numbers each image's prompt from 0; the same number in both means the same prompt.
    """
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"features must come from one extractor, got widths {x.shape[1]} and {y.shape[1]}"
        )
    for side, features, index in (("model", x, index_x), ("reference", y, index_y)):
        if len(features) != len(index):
            raise ValueError(f"{side} has {len(features)} features but {len(index)} prompt indices")
        if not np.isfinite(features).all():
            raise ValueError(f"{side} features must be finite: look at its images for NaN")
        if (found := len(np.unique(index))) < MIN_PROMPTS:
            raise ValueError(
                f"KID needs at least {MIN_PROMPTS} prompts, the {side} has {found}: ask for more"
            )
    n_prompts = int(max(index_x.max(), index_y.max())) + 1
    return PromptKernels(
        xx=_between(x, index_x, x, index_x, n_prompts),
        yy=_between(y, index_y, y, index_y, n_prompts),
        xy=_between(x, index_x, y, index_y, n_prompts),
        n_x=np.bincount(index_x, minlength=n_prompts).astype(np.float64),
        n_y=np.bincount(index_y, minlength=n_prompts).astype(np.float64),
    )


def _between(x: Array, index_x: Index, y: Array, index_y: Index, n_prompts: int) -> Array:
    members = np.eye(n_prompts)[index_y]
    sums = np.zeros((n_prompts, n_prompts))
    for start in range(0, len(x), 1024):  # a slab of the kernel at a time bounds the memory
        rows = slice(start, start + 1024)
        kernel = (x[rows] @ y.T / x.shape[1] + 1) ** 3
        np.add.at(sums, index_x[rows], kernel @ members)
    np.fill_diagonal(sums, 0)
    return sums


def kid(kernels: PromptKernels, weights: Weights) -> Draws:
    """Draws of the KID under the weights of the prompts."""
    return (
        _mean_kernel(kernels.xx, kernels.n_x, kernels.n_x, weights)
        + _mean_kernel(kernels.yy, kernels.n_y, kernels.n_y, weights)
        - 2 * _mean_kernel(kernels.xy, kernels.n_x, kernels.n_y, weights)
    )


def _mean_kernel(sums: Array, n_x: Array, n_y: Array, weights: Weights) -> Draws:
    total = ((weights @ sums) * weights).sum(1)
    pairs = (weights @ n_x) * (weights @ n_y) - weights**2 @ (n_x * n_y)
    return divide(total, pairs)


def gap_closed(kid_start: Draws, kid_end: Draws, kid_student: Draws) -> Draws:
    """Share of the way from start to end that the student has gone: 0 at start, 1 at end.

    All three under the same weights. Where a resample has no gap to close (start is not worse than
    end) the share is undefined; `estimate` then gives no interval if that happens often.
    """
    gap = kid_start - kid_end
    return divide(kid_start - kid_student, np.where(gap > 0, gap, 0.0))
