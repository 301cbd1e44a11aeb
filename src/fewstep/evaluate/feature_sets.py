"""What every distance between two sets of features asks of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.statistics import Index

Array = NDArray[np.float64]


def checked(x: NDArray, y: NDArray) -> tuple[Array, Array]:
    """Model features x, (n, d), and reference features y, (m, d), in float64.

    ValueError if they are not from one extractor or not finite.
    """
    for side, features in (("model", x), ("reference", y)):
        if features.ndim != 2:
            raise ValueError(
                f"{side} features must have the shape (images, width), got {features.shape}"
            )
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"features must come from one extractor, got widths {x.shape[1]} and {y.shape[1]}"
        )
    for side, features in (("model", x), ("reference", y)):
        if not np.isfinite(features).all():
            raise ValueError(f"{side} features must be finite: look at its images for NaN")
    return x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)


def check_index(side: str, features: NDArray, index: Index) -> None:
    """ValueError unless each row of the features has its prompt."""
    if len(features) != len(index):
        raise ValueError(f"{side} has {len(features)} features but {len(index)} prompt indices")


def square_distances(x: Array, y: Array) -> Array:
    """(n, m): squared Euclidean distances of rows, from one product of matrices.

    Rounding may bring that of equal rows below 0, by 1e-16 of their squared length or so.
    """
    return (x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2 * (x @ y.T)
