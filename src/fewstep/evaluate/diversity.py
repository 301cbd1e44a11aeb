"""Diversity: how much the seeds of one prompt differ, in layout, in features and in pixels.

A collapsed model draws the same picture for every seed. Everything here is computed within a prompt
and averaged afterwards: pooling prompts would hide a collapse behind the variety of the prompts.
(Perceptual distances are in `gram`; whether prompts differ from one another, in `collapse`.)

Every measure returns one value a prompt, NaN where a prompt has fewer than two images. `mean` makes
draws of it (with `np.arange(n_prompts)` as index), `ratio` draws relative to the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.statistics import Draws, Index, Weights, divide, gap_closed, mean
from fewstep.shapes import Pixels

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


def cosine_distance(features: Array, index: Index, n_prompts: int) -> Array:
    """(n_prompts,): mean of 1 - cos over pairs of images of one prompt; 0 for copies, at most 2.

    features is (n, d). With u = f / |f|, 1 - cos = |u - u'|^2 / 2, and its mean over pairs is the
    trace of the unbiased covariance of u: near-copies keep their digits, which 1 - cos would lose.
    """
    return _by_prompt(_total_variance, unit(features), index, n_prompts)


def vendi(features: Array, index: Index, n_prompts: int) -> Array:
    """(n_prompts,): effective number of different images, 1 (all copies) to n (all orthogonal).

    The Vendi score of Friedman and Dieng 2023 (arXiv:2210.02410, definition 3.1): the exponential
    of the entropy of the eigenvalues of K / n, K the cosine similarities of (n, d) features. It
    grows with the number of seeds, so compare sets of equally many.
    """
    return _by_prompt(_effective_number, unit(features), index, n_prompts)


def pixel_std(images: Pixels, index: Index, n_prompts: int) -> Array:
    """(n_prompts,): standard deviation over the seeds at each pixel and channel, averaged.

    In units of the range [0, 1]; with n - 1 in the denominator, so that the number of seeds
    matters little.
    """
    pixels = images.detach().cpu().numpy()
    return _by_prompt(_mean_deviation, pixels.reshape(len(pixels), -1), index, n_prompts)


def ratio(model: Array, truth: Array, weights: Weights) -> Draws:
    """Draws of the mean of the model over the mean of the truth, from values of the prompts.

    A prompt counts where both are known, so that unreadable images do not change the prompts.
    """
    both = ~np.isnan(model) & ~np.isnan(truth)
    index = np.arange(len(model))
    return divide(
        mean(np.where(both, model, np.nan), index, weights),
        mean(np.where(both, truth, np.nan), index, weights),
    )


def recovered(student: Draws, adapted: Draws, teacher: Draws) -> Draws:
    """Share of the diversity that a student lost against its teacher and an adapted one has back.

    0 at the student, 1 at the teacher. All three under the same weights; NaN where a resample has
    no gap (the teacher is not more diverse than the student).
    """
    return gap_closed(-student, -teacher, -adapted)  # a loss of diversity is what is closed


def unit(features: Array) -> Array:
    """(n, d) float64: each row of length 1. ValueError for a row that is 0 or not finite."""
    features = np.asarray(features, dtype=np.float64)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise ValueError("features must be finite and not all 0, or they have no direction: look "
                         "at the images for NaN")  # fmt: skip
    return features / length


def _by_prompt(
    measure: Callable[[Array], float], values: NDArray[np.floating], index: Index, n_prompts: int
) -> Array:
    result = np.full(n_prompts, np.nan)
    for prompt in range(n_prompts):
        own = values[index == prompt].astype(np.float64)
        if len(own) > 1:
            result[prompt] = measure(own)
    return result


def _variance(rows: Array) -> Array:
    # relative to the first row, so that copies give 0 exactly
    return np.var(rows - rows[0], axis=0, ddof=1)


def _total_variance(rows: Array) -> float:
    return float(_variance(rows).sum())


def _mean_deviation(rows: Array) -> float:
    return float(np.sqrt(_variance(rows)).mean())


def _effective_number(rows: Array) -> float:
    # singular values of the rows rather than eigenvalues of K: a near-copy's is not lost
    share = np.linalg.svd(rows, compute_uv=False) ** 2 / len(rows)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
