"""Numbers with intervals: a bootstrap over prompts that every metric shares.

A resample gives each prompt a weight (how often it was drawn); all images of a prompt go with it,
since seeds of one prompt are not independent. One matrix of weights serves all metrics and all
models, so every quantity is a vector of *draws*: its value on the data, then its value under each
resample. Draws made with the same weights may be added, subtracted and divided, and the result is
a paired comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float64]
"""(1 + replicates,): the value on the data, then its value under each resample of the prompts."""

Weights = NDArray[np.float64]
"""(1 + replicates, prompts): a row of ones, then how often each prompt was drawn."""

Index = NDArray[np.int64]
"""(n,): the prompt of each image, from 0."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval. NaN bounds mean that the data give no interval."""

    value: float
    low: float
    high: float
    n_prompts: int
    n_seeds: int
    """Images for each prompt."""
    n_runs: int = 1
    """Training runs; with more than one, the interval is over them and not over prompts."""

    def to_json(self) -> dict[str, float | int | None]:
        """Plain JSON: a value that is not finite becomes null."""
        return {
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "n_prompts": self.n_prompts,
            "n_seeds": self.n_seeds,
            "n_runs": self.n_runs,
        }

    @staticmethod
    def from_json(record: Mapping[str, float | int | None]) -> Estimate:
        value, low, high = (
            math.nan if record[key] is None else float(record[key] or 0.0)
            for key in ("value", "low", "high")
        )
        n_prompts, n_seeds, n_runs = (
            int(record[key] or 0) for key in ("n_prompts", "n_seeds", "n_runs")
        )
        return Estimate(value, low, high, n_prompts, n_seeds, n_runs)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def prompt_weights(n_prompts: int, rng: np.random.Generator, replicates: int = 1000) -> Weights:
    """Multinomial weights; row 0 is the data itself."""
    if n_prompts < 2:
        raise ValueError(
            f"n_prompts must be at least 2 to resample prompts, got {n_prompts}: ask for more"
        )
    drawn = rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=replicates)
    return np.concatenate([np.ones((1, n_prompts)), drawn.astype(np.float64)])


def mean(values: NDArray, index: Index, weights: Weights) -> Draws:
    """Draws of the mean of one value an image; NaN values are left out.

    Between-prompt spread already holds the noise of the seeds, so seeds are not drawn again.
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    n_prompts = weights.shape[1]
    total = np.bincount(index[known], values[known], minlength=n_prompts)
    count = np.bincount(index[known], minlength=n_prompts).astype(np.float64)
    return divide(weights @ total, weights @ count)


def divide(top: Draws, bottom: Draws) -> Draws:
    """top / bottom, NaN where bottom is 0."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0)


def gap_closed(start: Draws, end: Draws, student: Draws) -> Draws:
    """Share of the way from start to end that the student has gone: 0 at start, 1 at end.

    Of a quantity that falls from start to end, all three under the same weights. Where a resample
    has no gap to close (start is not worse than end) the share is undefined; `estimate` then gives
    no interval if that happens often.
    """
    gap = start - end
    return divide(start - student, np.where(gap > 0, gap, 0.0))


def estimate(draws: Draws, n_prompts: int, n_seeds: int, level: float = 0.95) -> Estimate:
    """Percentile interval of the draws; without one if more than 1 in 20 draws is undefined."""
    replicates = draws[1:]
    known = replicates[np.isfinite(replicates)]
    if len(known) < 0.95 * len(replicates) or not np.isfinite(draws[0]):
        return Estimate(float(draws[0]), math.nan, math.nan, n_prompts, n_seeds)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(draws[0]), float(low), float(high), n_prompts, n_seeds)


def estimate_share(draws: Draws, n_prompts: int, n_seeds: int) -> Estimate:
    """`estimate` for a share of images, which a resample cannot move away from 0 or 1.

    There the exact binomial bound is used, with prompts as trials: seeds may not be independent.
    """
    found = estimate(draws, n_prompts, n_seeds)
    rest = 1 - 0.025 ** (1 / n_prompts)
    if found.value == 1:
        return replace(found, low=1 - rest, high=1.0)
    return replace(found, low=0.0, high=rest) if found.value == 0 else found


def estimate_share_difference(a: Draws, b: Draws, n_prompts: int, n_seeds: int) -> Estimate:
    """`estimate` of a - b for shares of images under the same weights.

    Where each is 0 or 1 no resample moves either, and the interval takes the far ends of their
    exact ones: at least 95 % by Bonferroni's inequality, since each fails in at most 2.5 %.
    """
    found = estimate(a - b, n_prompts, n_seeds)
    if a[0] not in (0, 1) or b[0] not in (0, 1):
        return found
    of_a, of_b = (estimate_share(own, n_prompts, n_seeds) for own in (a, b))
    return replace(found, low=of_a.low - of_b.high, high=of_a.high - of_b.low)


def over_runs(values: Sequence[float], n_prompts: int = 0, n_seeds: int = 0) -> Estimate:
    """Mean over training runs and its t-interval; one run has no interval."""
    if not values:
        raise ValueError("values must hold one number for each training run, got none")
    centre = float(np.mean(values))
    if len(values) == 1:
        return Estimate(centre, math.nan, math.nan, n_prompts, n_seeds)
    half = student_t(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(centre, centre - half, centre + half, n_prompts, n_seeds, len(values))


def student_t(df: int, level: float = 0.95) -> float:
    """The two-sided quantile: |t| stays below it with probability `level`.

    Bisection on theta = atan(t / sqrt(df)), in which the distribution function is a finite
    trigonometric sum for whole df (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        theta = (low + high) / 2
        low, high = (theta, high) if _within(theta, df) < level else (low, theta)
    return math.sqrt(df) * math.tan(low)


def _within(theta: float, df: int) -> float:
    cos, sin = math.cos(theta), math.sin(theta)
    odd = df % 2
    term, total = (cos, 0.0) if odd else (1.0, 0.0)
    for power in range(odd, df - 1, 2):
        total += term
        term *= cos * cos * (power + 1) / (power + 2)
    return (theta + sin * total) * 2 / math.pi if odd else sin * total
