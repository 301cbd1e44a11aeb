"""Ways to more variety among the seeds of a prompt that need no training.

Few-step models answer every seed with nearly the same layout, which is decided at the highest noise
levels. All of these act there and leave the later steps alone. As functions over `Velocity` they
serve any sampler of `flow.sample`; the dataclasses say which one is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from fewstep.flow.sample import Velocity
from fewstep.flow.sigmas import check_grid
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma

EARLY = 0.92
"""Levels above this are the first fifth of the steps of a grid with shift 3: one of the first 4
steps, two of 8."""


@dataclass(frozen=True, kw_only=True)
class FirstStepBy:
    """The first step is made by another model, usually the teacher (arXiv:2503.10637)."""

    name: Literal["first"] = "first"
    model: str
    """A directory, a hub id, a run or "shapes"."""
    guidance: float = 1.0
    """w of that step; 1 means none."""
    fingerprint: str = ""
    """Hash of its weights, once it is loaded."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("the first step needs the name of a model, got an empty one")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number, got {self.guidance}")

    @property
    def title(self) -> str:
        guided = f" with w = {self.guidance:g}" if self.guidance != 1 else ""
        return f"first step by {self.model}{guided}"


@dataclass(frozen=True, kw_only=True)
class ConditionNoise:
    """The condition is noised at the levels above `above` (`noised_condition`)."""

    name: Literal["prompt-noise"] = "prompt-noise"
    strength: float
    """Bound of the noise, in standard deviations of the condition."""
    share: float = 0.5
    """Of the condition's values, on average."""
    above: float = EARLY

    def __post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise ValueError(f"strength must be a finite number above 0, got {self.strength}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")
        check_above(self.above)

    @property
    def title(self) -> str:
        part = f"on {self.share:g} of the values" if self.share < 1 else "on all values"
        return f"prompt noise {self.strength:g} {part} above {self.above:g}"


@dataclass(frozen=True, kw_only=True)
class Damped:
    """The spatial mean of a block's image tokens counts `factor` times at the levels above `above`
    (DAVE, arXiv:2606.06813; see `families.damping`)."""

    name: Literal["damp"] = "damp"
    factor: float
    """The paper takes 0.2 to 0.5; 1 changes nothing."""
    block: int = 1
    """The paper looks at block 5 of SD3, about a fifth of the way in: 1 of the six of Shapes."""
    above: float = EARLY

    def __post_init__(self) -> None:
        if not 0 <= self.factor < math.inf:
            raise ValueError(f"factor must be a finite number of at least 0, got {self.factor}")
        if self.block < 0:
            raise ValueError(f"block must be >= 0, got {self.block}")
        check_above(self.above)

    @property
    def title(self) -> str:
        return f"mean of block {self.block} times {self.factor:g} above {self.above:g}"


@dataclass(frozen=True, kw_only=True)
class ScaledNoise:
    """Sampling begins at `scale` times the noise, as if its variance were another."""

    name: Literal["noise"] = "noise"
    scale: float

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a finite number above 0, got {self.scale}")

    @property
    def title(self) -> str:
        return f"noise times {self.scale:g}"


Variety = FirstStepBy | ConditionNoise | Damped | ScaledNoise


def check_above(above: float) -> None:
    if not 0 <= above < 1:
        raise ValueError(f"above must be a noise level in [0, 1), got {above}")


def by_level(parts: Sequence[tuple[float, Velocity]], rest: Velocity) -> Velocity:
    """The velocity of the first part (above, velocity) whose `above` lies below the level, of
    `rest` where none does.

    ValueError unless the parts' levels fall strictly, and in a call of samples at several levels.
    """
    floors = [above for above, _ in parts]
    if any(b >= a for a, b in pairwise(floors)):
        raise ValueError(f"the levels of the parts must fall strictly, got {floors}")

    def velocity(x: Latent, sigma: Sigma) -> Latent:
        low, high = float(sigma.min()), float(sigma.max())
        if low != high:
            raise ValueError(
                f"samples that are drawn together must share one level, got {low:g} to {high:g}; "
                "call this at one level at a time"
            )
        # torch compares in float32, in which a level of the grid equals itself
        found = (model for above, model in parts if bool(sigma[0] > above))
        return next(found, rest)(x, sigma)

    return velocity


def gated(
    at_strength: Callable[[float], Velocity], strengths: Sequence[float], sigmas: Sequence[float]
) -> Velocity:
    """Another strength of an adapter at each step of the grid `sigmas`, for example (1, 1, 0, 0).

    `at_strength` is asked once for each distinct strength. For adapters of `nets.adapters` it makes
    a tree of its own over the same weights: `share`, then `set_strength`.
    """
    floors = check_grid(sigmas)[1:]
    if len(strengths) != len(floors):
        raise ValueError(
            f"a gate needs one strength for each of the {len(floors)} steps, got {len(strengths)}"
        )
    trees = {strength: at_strength(strength) for strength in dict.fromkeys(strengths)}
    parts = [(floor, trees[s]) for floor, s in zip(floors, strengths, strict=True)]
    return by_level(parts[:-1], parts[-1][1])


def noised_condition(
    tokens: Sequence[Tensor], rng: Rng, strength: float, share: float
) -> tuple[Tensor, ...]:
    """Each sample's condition, (length, width), with uniform noise on a share of its values.

    The noise lies within +- strength times the standard deviation of that very condition, as
    InvokeAI has it, and each sample draws from its own stream. After SeedVarianceEnhancer (by
    ChangeTheConstants, a ComfyUI node), which goes back to the clean condition after the first
    fifth of the steps: use `by_level`.
    """
    found: list[Tensor] = []
    # conditions differ in length, so each is drawn by itself
    for sample, stream in zip(tokens, rng.streams, strict=True):
        chosen = torch.rand(sample.shape, generator=stream) < share
        noise = 2 * torch.rand(sample.shape, generator=stream) - 1
        scale = strength * sample.float().std(correction=0)
        found.append(sample.float() + scale * (noise * chosen).to(sample.device))
    return tuple(found)
