"""Precision, recall, density and coverage: which images lie among the other set's neighbours.

The ball of an image reaches to the k-th nearest other image of its own set.

    precision   is the model's image in the ball of any reference image
    recall      is the reference image in the ball of any model image
    density     in how many reference balls is the model's image, over k
    coverage    does the reference image's ball hold any model image

Precision and recall: Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2. Density and coverage:
Naeem et al. 2020, arXiv:2002.09797, eq. 3 and 4, which outliers mislead less. A ball includes its
edge. All four depend on the number of images, so compare only at equal numbers.

Each is a mean over images, so its interval is that of `statistics.mean` over prompts. The balls
are those of the data in every resample: the interval leaves out their own noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.feature_sets import check_index, checked, square_distances
from fewstep.evaluate.statistics import Draws, Index, Weights, mean

Array = NDArray[np.float64]

NEAREST = 5
"""k of Naeem et al.; Kynkaanniemi et al. take 3."""

SLAB = 1024
"""Rows of distances that are held at a time."""

ROUNDING = 1e-12
"""Of the largest squared length: equal distances, computed in two products, differ by less."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Values of single images; their means are the metrics."""

    precision: Array
    """(n,) of the model's images, 0 or 1."""
    density: Array
    """(n,) of the model's images, >= 0; 1 on average for equal distributions."""
    recall: Array
    """(m,) of the reference images, 0 or 1."""
    coverage: Array
    """(m,) of the reference images, 0 or 1."""


def neighbours(x: NDArray, y: NDArray, k: int = NEAREST) -> Neighbours:
    """Model features x, (n, d), against reference features y, (m, d).

    ValueError unless both sets have at least k + 2 images, so that a ball can leave one out.
    """
    x, y = checked(x, y)
    if k < 1:
        raise ValueError(f"k must be at least 1 neighbour, got {k}")
    for side, features in (("model", x), ("reference", y)):
        if len(features) < k + 2:
            raise ValueError(
                f"k = {k} neighbours need at least {k + 2} images, the {side} has "
                f"{len(features)}: draw more or lower k"
            )
    # products lose fewer digits near the origin
    x, y = x - y.mean(0), y - y.mean(0)
    slack = ROUNDING * max((x**2).sum(1).max(), (y**2).sum(1).max())
    reach_x, reach_y = _reach(x, k) + slack, _reach(y, k) + slack
    balls_around = np.empty(len(x))
    recall, coverage = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for start in range(0, len(x), SLAB):
        rows = slice(start, start + SLAB)
        distances = square_distances(x[rows], y)
        in_reference = distances <= reach_y
        balls_around[rows] = in_reference.sum(1)
        coverage |= in_reference.any(0)
        recall |= (distances <= reach_x[rows, None]).any(0)
    return Neighbours(
        precision=(balls_around > 0).astype(np.float64), density=balls_around / k,
        recall=recall.astype(np.float64), coverage=coverage.astype(np.float64),
    )  # fmt: skip


def neighbour_draws(
    found: Neighbours, index_x: Index, index_y: Index, weights: Weights
) -> dict[str, Draws]:
    """Draws of the four metrics; `index_*` is the prompt of each model and reference image."""
    check_index("model", found.precision, index_x)
    check_index("reference", found.recall, index_y)
    return {
        "precision": mean(found.precision, index_x, weights),
        "recall": mean(found.recall, index_y, weights),
        "density": mean(found.density, index_x, weights),
        "coverage": mean(found.coverage, index_y, weights),
    }


def _reach(x: Array, k: int) -> Array:
    """(n,): squared distance of each row to the k-th nearest other row."""
    reach = np.empty(len(x))
    for start in range(0, len(x), SLAB):
        distances = square_distances(x[start : start + SLAB], x)
        np.fill_diagonal(distances[:, start:], np.inf)
        reach[start : start + SLAB] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return reach
