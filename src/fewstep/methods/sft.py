"""SFT: flow matching at the levels of a few-step model (arXiv:2209.03003, eq. 1).

    x = (1 - sigma) x0 + sigma eps        sigma: one of the student's levels
    loss = |v_student(x, sigma, c) - (eps - x0)|^2

Ordinary fine-tuning, the yardstick for everything that is meant to leave few steps intact. Its
optimum is x0_hat = E[x0 | x, c]: at sigma = 1 the mean of all pictures of a prompt, whatever the
noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone
from fewstep.flow import sigmas
from fewstep.methods.base import Logs, Phase
from fewstep.methods.losses import flow_matching
from fewstep.nets.ema import Ema
from fewstep.rng import Rng


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    name: Literal["sft"] = "sft"
    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler visits (its grid without the final 0)."""
    student_probs: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """How often each is trained."""
    ema_decay: float = 0.99
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        sigmas.check_grid((*self.student_sigmas, 0.0))
        sigmas.check_probs("student_probs", self.student_probs, self.student_sigmas)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")


class SFT:
    """`fewstep.methods.base.Method` over a student alone."""

    def __init__(self, cfg: SFTConfig, *, student: Backbone) -> None:
        self.cfg, self.student = cfg, student
        self.ema = Ema(student, decay=cfg.ema_decay, warmup=cfg.ema_warmup)
        self.modules: Mapping[str, nn.Module] = {"student": student, "ema": self.ema}

    def exported(self) -> nn.Module:
        return self.ema.average

    def phases(self, step: int) -> Iterator[Phase]:
        yield Phase(
            "student", self.student, self.loss, after=partial(self.ema.update, self.student)
        )

    def loss(self, batch: Batch, rng: Rng) -> tuple[Tensor, Logs]:
        cfg = self.cfg
        loss = flow_matching(self.student, batch, rng, cfg.student_sigmas, cfg.student_probs)
        return loss, {"loss": loss.detach()}
