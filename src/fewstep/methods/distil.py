"""Self-distillation: a student beside its own slow average, state by state of a roll-out.

What the methods that learn from themselves have in common. Which states they compare is their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, Velocity, at, onward
from fewstep.flow.sigmas import check_grid
from fewstep.methods.base import Part, nothing
from fewstep.nets.ema import following
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma

VelocityForm = Literal["v", "x0", "mu"]
Compared = Iterator[tuple[int, Latent, Latent]]
"""The state k, the student's velocity there with its graph, and the velocity it should have."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    decay: float | None = 0.9999
    """Of the student's average; none leaves the teacher the model as it was before training, 0
    makes it the student as it is."""
    follow: float = 0.1
    """Until the average is as slow as its decay, it has come this share of a straight way, however
    short the run is (`nets.ema`): 0.9999 alone comes 9 % of it in 2000 updates, the length of
    D-OPSD's released runs, and 1.5 % in 300. 0 is the decay alone."""
    guidance: float = 1.0
    """w of the teacher."""

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(
                f"decay must lie in [0, 1), or be none for a frozen teacher, got {self.decay}"
            )
        if not 0 <= self.follow < 1:
            raise ValueError(f"follow must lie in [0, 1), got {self.follow}")
        if not self.guidance >= 1:
            raise ValueError(f"guidance must be >= 1, got {self.guidance}")


class SelfTeacher:
    """The student's average, or the model that it began as, on what the student does not see.

    base     the model before training, frozen
    uncond   the condition of no prompt, (1,); needed where `cfg.guidance` is not 1
    modules  what a resumed run needs of it
    update   to be called after each optimizer step
    """

    def __init__(
        self, cfg: TeacherConfig, *, student: Backbone, base: Backbone, uncond: Cond | None
    ) -> None:
        if any(p.requires_grad for p in base.parameters()):
            raise ValueError(
                "the model before training must be frozen: call base.requires_grad_(False)"
            )
        self.cfg, self.uncond = cfg, uncond
        self.module: nn.Module = base
        self.modules: Mapping[str, nn.Module] = {}
        self.update: Callable[[], None] = nothing
        if cfg.decay is not None:
            ema = following(student, decay=cfg.decay, share=cfg.follow)
            self.module, self.modules = ema.average, {"ema": ema}
            self.update = partial(ema.update, student)

    def velocity(self, batch: Batch) -> Velocity:
        """Its velocity in the context of these samples. ValueError where they have none."""
        if batch.context is None:
            raise ValueError(
                "this method needs what its teacher sees of each sample, a picture or an enhanced "
                "prompt, and the data give none: set the context of the data"
            )
        uncond = None if self.uncond is None else Cond.cat([self.uncond] * len(batch))
        return guided(self.module, batch.context, uncond, self.cfg.guidance)


def velocity_weight(form: VelocityForm, here: float, there: float) -> float:
    """What |v - goal|^2 at the level `here` is multiplied by to be the distance of

    v    the velocities
    x0   the estimates of the picture, x - here v
    mu   the next states of Euler, x + (there - here) v, as PE-OPSD weighs them
    """
    match form:
        case "v":
            return 1.0
        case "x0":
            return here**2
        case "mu":
            return (there - here) ** 2
        case _:
            assert_never(form)


def some_of(states: int, visits: int | None, rng: Rng) -> list[int]:
    """`visits` of the states 0, 1, ..., in order, each as likely as any other, and the same ones
    for all samples and micro-batches of a step; none is all of them."""
    if visits is None:
        return list(range(states))
    order = torch.randperm(states, generator=rng.shared("visits"))
    return sorted(int(k) for k in order[:visits])


def check_visits(visits: int | None, states: int) -> None:
    if visits is not None and not 1 <= visits <= states:
        raise ValueError(
            f"visits must lie in 1 .. {states}, the number of student_sigmas, or be none for all "
            f"of them, got {visits}"
        )


def facing(student: Velocity, teacher: Velocity, x: Latent, sigma: Sigma) -> tuple[Latent, Latent]:
    """The velocities of both at one state, without a graph through the teacher."""
    v = student(x, sigma)
    with torch.no_grad():
        return v, teacher(x, sigma)


def always(v: Latent) -> Velocity:
    """A model that has been asked already."""
    return lambda x, sigma: v


def visited(
    student: Velocity, teacher: Velocity, x: Latent, grid: Sequence[float], rng: Rng, *,
    chosen: Collection[int], sampler: SamplerName, leads: Literal["student", "teacher"],
) -> Compared:  # fmt: skip
    """(k, v_student, v_teacher) at the chosen states of a roll-out, one after the other.

    The roll-out begins at x and goes where the one who leads takes the sampler. States carry no
    graph, v_student that of its own call. Who leads is called once at every state up to the last
    chosen one, the other at the chosen ones alone.
    """
    leader = {"student": student, "teacher": teacher}[leads]
    for k, (here, there) in enumerate(pairwise(check_grid(grid))):
        sigma = at(here, x)
        if k in chosen:
            v, goal = facing(student, teacher, x, sigma)
            yield k, v, goal
            led = {"student": v, "teacher": goal}[leads].detach()
        else:
            with torch.no_grad():
                led = leader(x, sigma)
        if k == max(chosen):
            return
        x = onward(sampler, always(led), x, here, there, rng)


def weighed(
    states: Compared, grid: Sequence[float], count: int, form: VelocityForm,
    distance: Callable[[Latent, Latent], Tensor], name: str,
) -> Iterator[Part]:  # fmt: skip
    """The mean of the weighted distances over `count` states, in parts. Logged are it and what each
    state of the grid has added to it."""
    for k, v, goal in states:
        loss = velocity_weight(form, grid[k], grid[k + 1]) * distance(v, goal) / count
        by_state = torch.zeros(len(grid) - 1, device=v.device)
        by_state[k] = loss.detach()
        yield loss, {name: loss.detach(), f"{name}_by_state": by_state}
