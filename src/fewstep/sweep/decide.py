"""When one trial may be called better than another: pure functions of draws.

Draws of a trial are (seeds, 1 + replicates): a row for each training seed, its score on the data
and then under each resample of the prompts (`evaluate.statistics`). All trials have the same
prompts, sampling seeds and resamples, so a difference of two rows of one training seed is paired.

Seeds are drawn again beside prompts: two seeds that disagree give an interval as wide as their
disagreement. With two it is still a rough one, which is why the first trials are run afresh at the
end, where the interval must hold over prompts and by a t-interval over seeds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.statistics import (
    Draws,
    Estimate,
    estimate,
    estimate_share,
    estimate_share_difference,
    over_runs,
)
from fewstep.rng import seed_of

SeedDraws = NDArray[np.float64]
"""(seeds, 1 + replicates)."""
Better = Literal["lower", "higher"]
MIN_SEEDS = 2
"""Training seeds below which nothing is called better."""


def pooled(draws: SeedDraws, purpose: str = "seeds") -> Draws:
    """(1 + replicates,): the mean over seeds, each replicate with seeds drawn again. Equal numbers
    of seeds are drawn alike for one purpose."""
    n, columns = draws.shape
    if n == 0:
        raise ValueError("draws must hold a row for each training seed, got none")
    rng = np.random.default_rng(seed_of("sweep", purpose, n))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=columns - 1) / n
    share = np.concatenate([np.full((1, n), 1 / n), counts])
    return np.einsum("rs,sr->r", share, draws)


def level(draws: SeedDraws, n_prompts: int, n_pictures: int, *, share: bool = False) -> Estimate:
    """The score of a trial over its training seeds; `share` of pictures, which needs an interval of
    its own at 0 and 1."""
    found = (estimate_share if share else estimate)(pooled(draws), n_prompts, n_pictures)
    return replace(found, n_runs=len(draws))


def difference(
    a: SeedDraws, b: SeedDraws, n_prompts: int, n_pictures: int, *, share: bool = False
) -> Estimate:
    """a - b, paired by training seed, prompt and sampling seed."""
    if a.shape != b.shape:
        raise ValueError(f"paired trials have the same seeds and resamples: {a.shape}, {b.shape}")
    if share:
        found = estimate_share_difference(pooled(a), pooled(b), n_prompts, n_pictures)
    else:
        found = estimate(pooled(a - b), n_prompts, n_pictures)
    return replace(found, n_runs=len(a))


def confirmed(
    a: SeedDraws, b: SeedDraws, n_prompts: int, n_pictures: int, *, share: bool = False
) -> Estimate:
    """a - b with the wider of two intervals on either side: over prompts and seeds drawn again, and
    of Student's t over training seeds, which is honest with few. One seed gives none."""
    resampled = difference(a, b, n_prompts, n_pictures, share=share)
    runs = over_runs([float(x) for x in (a - b)[:, 0]])
    if len(a) < MIN_SEEDS:
        return replace(resampled, low=math.nan, high=math.nan)
    return replace(resampled, low=min(resampled.low, runs.low), high=max(resampled.high, runs.high))


def curse(sweep: SeedDraws, fresh: SeedDraws, n_prompts: int, n_pictures: int) -> Estimate:
    """The score in the sweep minus the score afresh: the prompts are shared, the seeds are not."""
    draws = pooled(sweep) - pooled(fresh, "fresh")
    return replace(estimate(draws, n_prompts, n_pictures), n_runs=len(sweep) + len(fresh))


def is_better(gain: Estimate, better: Better) -> bool:
    """Whether a - b says that a is better: at least two training seeds, and zero is outside."""
    if gain.n_runs < MIN_SEEDS:
        return False
    return gain.high < 0 if better == "lower" else gain.low > 0


def is_worse(gain: Estimate, better: Better) -> bool:
    """Whether a - b says that a is worse, which one training seed is enough for: a trial that is
    given up costs nothing but a chance."""
    return gain.low > 0 if better == "lower" else gain.high < 0


def before(a: float, b: float, better: Better) -> bool:
    """Whether a score ranks before another."""
    return a < b if better == "lower" else a > b
