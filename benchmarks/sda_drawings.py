"""What the SDA studies draw without training: ways to variety that need none, and an adapter at
other strengths or in the first steps alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fewstep.experiment.config import Experiment
from fewstep.families.base import Backbone, Cond
from fewstep.flow.sample import Velocity
from fewstep.flow.variety import (
    ConditionNoise,
    Damped,
    FirstStepBy,
    ScaledNoise,
    Variety,
    gated,
)
from fewstep.shapes import Latent, Sigma

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Pictures of a student as it is, or with the adapter of a training seed."""

    name: str
    """Of its file, and of its row over training seeds."""
    question: str = ""
    level: str = ""
    variety: Variety | None = None
    seed: int | None = None
    """Training seed of the adapter; None is the student without one."""
    strength: float = 1.0
    gate: int | None = None
    """The adapter is on in so many of the first steps; None is all of them."""


def yardsticks(base: Experiment, seeds: tuple[int, ...]) -> tuple[Drawing, ...]:
    """Each way at a few settings, and the adapter of each training seed."""
    assert base.teacher is not None  # SDA's experiments have one
    ways: list[tuple[str, str, str, Variety]] = [
        *(("first step by the teacher", f"first_w{w:g}", f"w = {w:g}",
           FirstStepBy(model=base.teacher, guidance=w)) for w in (1.0, 2.0)),
        *(("prompt noise", f"prompt_noise{x:g}", f"{x:g}", ConditionNoise(strength=x))
          for x in (0.3, 1.0, 3.0)),
        *(("damped mean", f"damp{x:g}_block{n}", f"{x:g} in block {n}", Damped(factor=x, block=n))
          for n in (0, 1, 3) for x in (0.0, 0.5)),
        *(("noise", f"noise{x:g}", f"times {x:g}", ScaledNoise(scale=x)) for x in (0.9, 1.1, 1.25)),
    ]  # fmt: skip
    return (
        *(
            Drawing(name=name, question=question, level=level, variety=variety)
            for question, name, level, variety in ways
        ),
        *(Drawing(name="adapter", question="adapter", level="SDA", seed=s) for s in seeds),
    )


def strengths(base: Experiment, seeds: tuple[int, ...]) -> tuple[Drawing, ...]:
    """The adapter of each training seed at every strength, and at 1 in the first steps alone."""
    steps = base.sampling.steps
    found: list[Drawing] = []
    for seed in seeds:
        found += [
            Drawing(
                name=f"strength{s:g}", question="strength", level=f"{s:g}", seed=seed, strength=s
            )
            for s in STRENGTHS
        ]
        found += [
            Drawing(name=f"first{k}", question="first steps", level=f"{k} of {steps}", seed=seed,
                    gate=k)
            for k in range(1, steps)
        ]  # fmt: skip
    return tuple(found)


@torch.no_grad()
def blend(student: nn.Module, adapted: nn.Module, strength: float) -> None:
    """Move the weights of the student towards those with the adapter merged, in place.

    A merged weight is W + strength * delta, so this is the adapter at that strength, whatever its
    kind; at 0 and at 1 it is the one or the other to the last bit.
    """
    theirs = adapted.state_dict()
    for name, own in student.state_dict().items():
        own.copy_(torch.lerp(own, theirs[name], strength))


class Gated(Backbone):
    """The adapted model in the first `steps` steps of a grid, the one without adapter in the rest;
    for sampling without guidance."""

    def __init__(
        self, base: Backbone, adapted: Backbone, steps: int, sigmas: Sequence[float]
    ) -> None:
        super().__init__()
        self.base, self.adapted = base, adapted
        self.depth, self.width, self.cond_width = base.depth, base.width, base.cond_width
        self.strengths = [1.0 if i < steps else 0.0 for i in range(len(sigmas) - 1)]
        self.sigmas = tuple(sigmas)

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        def at_strength(strength: float) -> Velocity:
            model = self.adapted if strength else self.base
            return lambda x, sigma: model(x, sigma, cond)

        return gated(at_strength, self.strengths, self.sigmas)(x, sigma)
