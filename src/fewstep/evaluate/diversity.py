"""Layout diversity: how differently the seeds of one prompt place the same objects.

A collapsed model draws the same layout for every seed. Distances are within a prompt and averaged
afterwards: pooling prompts would hide a collapse behind the variety of the prompts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.statistics import Draws, Index, Weights, divide, mean

Array = NDArray[np.float64]


def pairwise(layouts: Array, index: Index, n_prompts: int) -> Array:
    """(n_prompts,): mean distance over pairs of images of one prompt.

    The distance of two layouts, rows of (n, k), is the root mean square of the differences of the
    coordinates known in both. NaN for a prompt without two images that share a known coordinate.
    """
    result = np.full(n_prompts, np.nan)
    for prompt in range(n_prompts):
        own = layouts[index == prompt]
        first, second = np.triu_indices(len(own), k=1)
        square = (own[first] - own[second]) ** 2
        known = ~np.isnan(square)
        shared = known.sum(1)
        if not shared.any():
            continue
        distance = np.sqrt(np.where(known, square, 0).sum(1)[shared > 0] / shared[shared > 0])
        result[prompt] = distance.mean()
    return result


def ratio(model: Array, truth: Array, weights: Weights) -> Draws:
    """Draws of mean model distance over mean true distance, from two results of `pairwise`.

    A prompt counts where both are known, so that unreadable images do not change the prompts.
    """
    both = ~np.isnan(model) & ~np.isnan(truth)
    index = np.arange(len(model))
    return divide(
        mean(np.where(both, model, np.nan), index, weights),
        mean(np.where(both, truth, np.nan), index, weights),
    )
