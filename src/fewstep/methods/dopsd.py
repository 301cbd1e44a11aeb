"""D-OPSD: on-policy self-distillation for tuning a few-step model (arXiv:2605.05204).

    x_0     = eps;  x_k = what the student's own sampler has made of it at level k, without graph
    loss    = mean over k of  w_k |v_student(x_k, sigma_k, c) - sg[v_teacher(x_k, sigma_k, c')]|^2
    tether  = the same towards the model before training, on its prompts' own roll-outs

The teacher is the student's slow average, and what it sees (`Batch.context`) tells more than the
prompt: the prompt beside its picture, or an enhanced prompt. Both are conditions and one to this
file. Reference latents of an edit branch would be a third way, which Z-Image does not have.
Training states are those of sampling, so that nothing is learnt at states that the sampler never
meets. They are differentiated one by one: memory does not grow with their number.

What is exported is the student, as in the paper, where the teacher is gone at inference. Its slow
average is for steady goals: having come a tenth of the way, it holds little of what was learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never

import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.flow import sigmas
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, Velocity
from fewstep.methods.base import Part, PhaseInParts, of_prior
from fewstep.methods.distil import (
    Compared,
    SelfTeacher,
    TeacherConfig,
    VelocityForm,
    check_visits,
    some_of,
    visited,
    weighed,
)
from fewstep.methods.losses import huber
from fewstep.rng import Rng
from fewstep.shapes import Latent


@dataclass(frozen=True, kw_only=True)
class DOPSDConfig:
    name: Literal["dopsd"] = "dopsd"
    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler visits (its grid without the final 0): the states of a roll-out."""
    visits: int | None = None
    """So many of the states are compared at a step, drawn anew each time; none is all of them."""
    form: VelocityForm = "v"
    """w_k: distances of velocities (the paper), of x0_hat (sigma^2, the released code) or of the
    next states of Euler (the step squared, PE-OPSD)."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    tether_weight: float = 0.0
    """Of staying with the model before training on the prompts of `Batch.prior`; 0 needs none."""
    tether: Literal["huber", "mse"] = "huber"
    tether_delta: float = 0.08
    """Where the Huber loss turns from a square into a straight line."""

    def __post_init__(self) -> None:
        sigmas.check_grid((*self.student_sigmas, 0.0))
        check_visits(self.visits, len(self.student_sigmas))
        if not self.tether_weight >= 0:
            raise ValueError(f"tether_weight must be >= 0, got {self.tether_weight}")
        if not self.tether_delta > 0:
            raise ValueError(f"tether_delta must be > 0, got {self.tether_delta}")


class DOPSD:
    """`fewstep.methods.base.Method` over a student and the model it began as.

    student  trained: adapters on a frozen model, or a whole copy of it
    base     the same model before training, frozen
    sampler  how the student goes from level to level, in training as in use
    uncond   the condition of no prompt, (1,); needed where `cfg.teacher.guidance` is not 1
    """

    def __init__(
        self, cfg: DOPSDConfig, *, student: Backbone, base: Backbone, sampler: SamplerName,
        uncond: Cond | None = None,
    ) -> None:  # fmt: skip
        self.cfg, self.student, self.base = cfg, student, base
        self.teacher = SelfTeacher(cfg.teacher, student=student, base=base, uncond=uncond)
        self.sampler: SamplerName = sampler
        self.grid = (*cfg.student_sigmas, 0.0)
        self.visits = cfg.visits or len(cfg.student_sigmas)
        self.modules: Mapping[str, nn.Module] = {"student": student, **self.teacher.modules}

    def exported(self) -> nn.Module:
        return self.student

    def phases(self, step: int) -> Iterator[PhaseInParts]:
        yield PhaseInParts("student", self.student, self.parts, after=self.teacher.update)

    def parts(self, batch: Batch, rng: Rng) -> Iterator[Part]:
        """The states of the pictures' prompts, one by one, then those of the other prompts."""
        cfg = self.cfg
        states = self.states(batch, self.teacher.velocity(batch), rng)
        yield from weighed(states, self.grid, self.visits, cfg.form, F.mse_loss, "distil")
        if cfg.tether_weight > 0:
            why = f"method.tether_weight = {cfg.tether_weight}"
            yield from of_prior(batch, rng, why, self.tether)

    def tether(self, others: Batch, rng: Rng) -> Iterator[Part]:
        """The states of other prompts, one by one."""
        states = self.states(others, guided(self.base, others.cond, None, 1), rng)
        yield from weighed(states, self.grid, self.visits, self.cfg.form, self.held, "tether")

    def states(self, batch: Batch, teacher: Velocity, rng: Rng) -> Compared:
        """The student's own roll-out of these prompts, and what the teacher says to its states."""
        return visited(
            guided(self.student, batch.cond, None, 1), teacher, rng.randn_like(batch.x0), self.grid,
            rng, chosen=some_of(len(self.cfg.student_sigmas), self.cfg.visits, rng),
            sampler=self.sampler, leads="student",
        )  # fmt: skip

    def held(self, v: Latent, before: Latent) -> Tensor:
        """What it costs to leave the model before training."""
        match self.cfg.tether:
            case "huber":
                distance = huber(v, before, self.cfg.tether_delta)
            case "mse":
                distance = F.mse_loss(v, before)
            case _:
                assert_never(self.cfg.tether)
        return self.cfg.tether_weight * distance
