"""Noise levels: grids for sampling and distributions for training.

A grid is a tuple of steps + 1 floats that falls from (usually) 1 to exactly 0. N steps are N
model calls, at the first N values: a student is trained at `levels(grid)` and sampled on `grid`,
so the shift is applied once and in one place.

Distributions return one float32 level for each sample, drawn from its own stream of `Rng`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from fewstep.rng import Rng
from fewstep.shapes import Sigma

Grid = tuple[float, ...]

Level = TypeVar("Level", float, Tensor)


def shift(u: Level, by: float) -> Level:
    """Move levels towards noise: by * u / (1 + (by - 1) * u), with 0 and 1 left in place.

    `by` > 1 spends more of a grid at high noise (Esser et al. 2024, arXiv:2403.03206, eq. 23);
    shift(shift(u, a), b) = shift(u, a * b), so shifting a shifted grid is a mistake that shows.
    """
    if not 0 < by < math.inf:
        raise ValueError(f"shift must be a finite number above 0, got by = {by}")
    return by * u / (1 + (by - 1) * u)


def grid(steps: int, by: float = 1.0) -> Grid:
    """The shifted uniform grid: `steps` levels from 1 to shift(1 / steps), then 0."""
    if steps < 1:
        raise ValueError(f"a grid needs at least 1 step, got steps = {steps}")
    return (*(shift((steps - i) / steps, by) for i in range(steps)), 0.0)


TURBO_SHIFT = 3.0
"""The static shift in the scheduler of Z-Image-Turbo."""

BASE_SHIFT = 6.0
"""The static shift in the scheduler of the Z-Image base model."""

TURBO_GRID: Grid = (1.0, 21 / 22, 9 / 10, 5 / 6, 3 / 4, 9 / 14, 1 / 2, 3 / 10, 0.0)
"""The eight levels at which Z-Image-Turbo was distilled: 3u / (1 + 2u) at u = 8/8, 7/8, ... 1/8.

Older samplers asked for nine steps to get these eight calls (their ninth level was 0).
"""


def turbo_grid(steps: int) -> Grid:
    """Z-Image-Turbo's grid for any number of steps; 8 gives `TURBO_GRID`, 4 its even indices."""
    return grid(steps, TURBO_SHIFT)


def base_grid(steps: int) -> Grid:
    """The grid of the Z-Image base model: 28 to 50 steps with guidance are usual."""
    return grid(steps, BASE_SHIFT)


def check_grid(sigmas: Sequence[float]) -> Grid:
    """The same values as a tuple; ValueError unless they fall strictly from at most 1 to 0."""
    values = tuple(float(s) for s in sigmas)
    if len(values) < 2:
        raise ValueError(f"sigmas must hold at least 2 values, a level and a final 0, got {values}")
    if not 0 < values[0] <= 1:
        raise ValueError(f"sigmas must start in (0, 1], got {values[0]}")
    if values[-1] != 0:
        raise ValueError(f"sigmas must end in 0, got {values[-1]}; append 0 to the levels")
    for a, b in pairwise(values):
        if not b < a:
            raise ValueError(f"sigmas must fall strictly, got {a} followed by {b}")
    return values


def levels(sigmas: Sequence[float]) -> Grid:
    """The levels at which a sampler on this grid calls the model: all of it but the final 0."""
    return check_grid(sigmas)[:-1]


def logit_normal(rng: Rng, mean: float, std: float) -> Sigma:
    """sigmoid(mean + std * normal): its median is sigmoid(mean) (arXiv:2403.03206, section 3.1)."""
    if not 0 < std < math.inf:
        raise ValueError(f"std of the logit-normal must be a finite number above 0, got {std}")
    return torch.sigmoid(mean + std * rng.randn())


def uniform_shifted(rng: Rng, by: float = 1.0) -> Sigma:
    """Uniform in (0, 1], then shifted: the density that an infinitely fine `grid` would have."""
    return shift(1 - rng.rand(), by)


def choice(rng: Rng, values: Sequence[float], probs: Sequence[float] | None = None) -> Sigma:
    """One of `values`, all in (0, 1], with the given probabilities (default: equal ones)."""
    weights = (1.0,) * len(values) if probs is None else tuple(probs)
    if len(values) == 0 or len(weights) != len(values):
        raise ValueError(
            f"choice needs one probability for each value, got {len(values)} values "
            f"and {len(weights)} probabilities"
        )
    if bad := [s for s in values if not 0 < s <= 1]:
        raise ValueError(f"levels to choose from must lie in (0, 1], got {bad[0]}")
    total = math.fsum(weights)
    if min(weights) < 0 or not 0 < total < math.inf:
        raise ValueError(f"probabilities must be at least 0 with a positive sum, got {weights}")
    if probs is not None and abs(total - 1) > 1e-6:
        raise ValueError(f"probabilities must sum to 1, got {total:g} from {weights}")
    edges = torch.tensor([p / total for p in weights], dtype=torch.float64).cumsum(0)[:-1]
    u = rng.rand()
    # right: u = 0 passes over an edge at 0, so that a first level of probability 0 stays undrawn.
    index = torch.bucketize(u.double(), edges.to(u.device), right=True)
    return torch.tensor(values, dtype=torch.float32, device=u.device)[index]


def check_probs(name: str, probs: Sequence[float], values: Sequence[float]) -> None:
    """ValueError unless there is one probability for each of the levels and they sum to 1."""
    if len(probs) != len(values):
        raise ValueError(
            f"{name} needs one value for each of the {len(values)} student_sigmas, got {len(probs)}"
        )
    if min(probs) < 0 or not math.isclose(sum(probs), 1, abs_tol=1e-6):
        raise ValueError(f"{name} must be >= 0 and sum to 1, got {probs}")


def check_turns(turns: Sequence[int], values: Sequence[float]) -> None:
    """ValueError unless each of the levels comes, by its place, and nothing else."""
    if set(turns) != set(range(len(values))):
        raise ValueError(
            f"turns must name each of the {len(values)} student_sigmas by its place, 0 the first, "
            f"and nothing else, got {tuple(turns)}"
        )
