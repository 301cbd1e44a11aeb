"""PSO: pairwise sample optimization, the target pictures preferred to the model's own
(Miao et al. 2024, arXiv:2410.03190).

    own     a picture that the student draws of the same prompt now (the online form)
    x       = (1 - sigma) x0 + sigma eps         of both, with one level and one noise
    e(x0)   = |v_student(x, sigma, c) - (eps - x0)|^2 - |v_base(x, sigma, c) - (eps - x0)|^2
    loss    = -log sigmoid(-beta (e(target) - e(own)))

The base is the model before training, frozen. It bounds how far the student goes: the gradient dies
where the target has become likelier than the own picture by some 1 / beta. No gradient crosses the
drawing of `own`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone
from fewstep.flow import path, sigmas
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, draw
from fewstep.methods.base import Logs, Phase
from fewstep.methods.losses import preference
from fewstep.nets.ema import Ema
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma


@dataclass(frozen=True, kw_only=True)
class PSOConfig:
    name: Literal["pso"] = "pso"
    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler visits (its grid without the final 0)."""
    student_probs: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """How often each is trained."""
    beta: float = 5.0
    """Of errors that are means over all numbers of a picture. 5 is what the paper's authors use for
    concepts, on errors of eps; on errors of v it has not been tuned."""
    ema_decay: float = 0.99
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        sigmas.check_grid((*self.student_sigmas, 0.0))
        sigmas.check_probs("student_probs", self.student_probs, self.student_sigmas)
        if not self.beta > 0:
            raise ValueError(f"beta must be > 0, got {self.beta}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")


class PSO:
    """`fewstep.methods.base.Method` over a student and the model it began as.

    student  trained: adapters on a frozen model, or a whole copy of it
    base     the same model before training, frozen
    sampler  how the student draws its own pictures, in training as in use
    """

    def __init__(
        self, cfg: PSOConfig, *, student: Backbone, base: Backbone, sampler: SamplerName
    ) -> None:
        if any(p.requires_grad for p in base.parameters()):
            raise ValueError("PSO's base must be frozen: call base.requires_grad_(False)")
        self.cfg, self.student, self.base = cfg, student, base
        self.sampler: SamplerName = sampler
        self.ema = Ema(student, decay=cfg.ema_decay, warmup=cfg.ema_warmup)
        self.modules: Mapping[str, nn.Module] = {"student": student, "ema": self.ema}

    def exported(self) -> nn.Module:
        return self.ema.average

    def phases(self, step: int) -> Iterator[Phase]:
        yield Phase(
            "student", self.student, self.loss, after=partial(self.ema.update, self.student)
        )

    def loss(self, batch: Batch, rng: Rng) -> tuple[Tensor, Logs]:
        sigma = sigmas.choice(rng, self.cfg.student_sigmas, self.cfg.student_probs)
        eps = rng.randn_like(batch.x0)
        target = self.excess(batch.x0, batch, sigma, eps)
        own = self.excess(self.own(batch, rng), batch, sigma, eps)
        loss = preference(target, own, self.cfg.beta)
        logs = {
            "loss": loss,
            "target": target.mean(),
            "own": own.mean(),
            "preferred": (target < own).float().mean(),
        }
        return loss, {name: value.detach() for name, value in logs.items()}

    @torch.no_grad()
    def own(self, batch: Batch, rng: Rng) -> Latent:
        """What the student draws of the same prompts under its present weights."""
        model = guided(self.student, batch.cond, None, 1)
        noise = rng.randn_like(batch.x0)
        return draw(self.sampler, model, noise, (*self.cfg.student_sigmas, 0.0), rng)

    def excess(self, x0: Latent, batch: Batch, sigma: Sigma, eps: Latent) -> Tensor:
        """(b,): e(x0), how much further from the truth the student is than the base."""
        x, goal = path.interpolate(x0, eps, sigma), path.velocity(x0, eps)
        v = self.student(x, sigma, batch.cond)
        with torch.no_grad():
            before = self.base(x, sigma, batch.cond)
        return ((v - goal).square() - (before - goal).square()).flatten(1).mean(1)
