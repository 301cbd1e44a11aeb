"""DMD2: distribution matching distillation (Yin et al. 2024, arXiv:2405.14867).

    x, sigma = a state that the student itself reaches at one of its levels (backward simulation,
               section 4.5)
    x0_hat   = x - sigma v_student(x, sigma, c)
    y        = x0_hat re-noised to a level of its own
    real     = the frozen teacher's estimate of x0 from y, with guidance w
    fake     = the critic's, without: the critic learns what the student draws
    critic   minimises |v_critic(y, sigma', c) - (eps' - sg[x0_hat])|^2
    student  moves along  (fake - real) / mean |x0_hat - real|      (arXiv:2311.18828, eqs. 7, 8)

Two time scales stand in for the regression loss of the first version (section 4.2): the critic
moves at every step, the student at every N-th, after the critic and against the moved one. A strong
w sharpens the student and costs it its diversity: one picture for every seed. That is how the
few-step models are made that SDA is for. The adversarial term of the paper is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.flow import path, sigmas
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, at, state
from fewstep.methods.base import Logs, Phase
from fewstep.nets.ema import Ema
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma


@dataclass(frozen=True, kw_only=True)
class DMD2Config:
    name: Literal["dmd2"] = "dmd2"
    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler will visit (its grid without the final 0); here shift 3, 4 steps."""
    turns: tuple[int, ...] = (0, 1, 2, 3)
    """Which of them a step works on, over and over: repeat one that needs more training."""
    picture_levels: int = 0
    """At so many of the last levels x is a noised picture of the batch instead of the student's own
    state, so that they learn to finish any layout they are given (section 4.5 without backward
    simulation)."""
    guidance: float = 4.0
    """w of the teacher in `real`."""
    student_every: int = 5
    """N: the student moves at steps N - 1, 2N - 1, ...: two time scales."""
    renoise_shift: float = 1.0
    """Shift of the uniform levels at which critic and teacher look; above 1 they see more noise."""
    ema_decay: float = 0.99
    """Of the student, counted in student moves; 0 exports the student as it is."""
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        sigmas.check_grid((*self.student_sigmas, 0.0))
        sigmas.check_turns(self.turns, self.student_sigmas)
        if not 0 <= self.picture_levels < len(self.student_sigmas):
            raise ValueError(
                f"picture_levels must leave one of the {len(self.student_sigmas)} student_sigmas "
                f"to the student's own states, got {self.picture_levels}"
            )
        if not self.guidance >= 1:
            raise ValueError(f"guidance must be >= 1, got {self.guidance}")
        if self.student_every < 1:
            raise ValueError(f"student_every must be >= 1, got {self.student_every}")
        if not self.renoise_shift > 0:
            raise ValueError(f"renoise_shift must be > 0, got {self.renoise_shift}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")

    def student_moves(self, step: int) -> bool:
        return (step + 1) % self.student_every == 0

    def from_picture(self, level: int) -> bool:
        """Whether x is a noised picture at this level."""
        return level >= len(self.student_sigmas) - self.picture_levels


class DMD2:
    """`fewstep.methods.base.Method` over a student, a frozen teacher and a critic.

    student, critic  trained; both start as copies of the teacher
    teacher          frozen
    uncond           the condition of no prompt, (1,), for the teacher's guidance
    sampler          what happens between two levels of the student, in training as in use
    """

    def __init__(
        self, cfg: DMD2Config, *, student: Backbone, teacher: Backbone, critic: Backbone,
        uncond: Cond, sampler: SamplerName,
    ) -> None:  # fmt: skip
        if any(p.requires_grad for p in teacher.parameters()):
            raise ValueError("DMD2's teacher must be frozen: call teacher.requires_grad_(False)")
        self.cfg = cfg
        self.student, self.teacher, self.critic = student, teacher, critic
        self.uncond = uncond
        self.sampler: SamplerName = sampler
        self.ema = Ema(student, decay=cfg.ema_decay, warmup=cfg.ema_warmup)
        self.modules: Mapping[str, nn.Module] = {
            "student": student,
            "critic": critic,
            "ema": self.ema,
        }

    def exported(self) -> nn.Module:
        return self.ema.average

    def phases(self, step: int) -> Iterator[Phase]:
        turns, moves = self.cfg.turns, step // self.cfg.student_every
        level = turns[step % len(turns)]
        yield Phase("critic", self.critic, partial(self.critic_loss, level=level))
        if self.cfg.student_moves(step):
            level = turns[moves % len(turns)]
            yield Phase(
                "student", self.student, partial(self.student_loss, level=level),
                after=partial(self.ema.update, self.student),
            )  # fmt: skip

    def critic_loss(self, batch: Batch, rng: Rng, *, level: int) -> tuple[Tensor, Logs]:
        """Flow matching on what the student draws from its state at one of its levels."""
        with torch.no_grad():
            x, sigma = self.simulate(batch, rng, level)
            x0_hat = path.to_x0(x, self.student(x, sigma, batch.cond), sigma)
        y, noisy, eps = self.renoised(x0_hat, rng)
        loss = F.mse_loss(self.critic(y, noisy, batch.cond), path.velocity(x0_hat, eps))
        return loss, {"loss": loss.detach()}

    def student_loss(self, batch: Batch, rng: Rng, *, level: int) -> tuple[Tensor, Logs]:
        with torch.no_grad():
            x, sigma = self.simulate(batch, rng, level)
        x0_hat = path.to_x0(x, self.student(x, sigma, batch.cond), sigma)
        with torch.no_grad():
            y, noisy, _ = self.renoised(x0_hat, rng)
            uncond = Cond.cat([self.uncond] * len(batch))
            teacher = guided(self.teacher, batch.cond, uncond, self.cfg.guidance)
            real = path.to_x0(y, teacher(y, noisy), noisy)
            fake = path.to_x0(y, self.critic(y, noisy, batch.cond), noisy)
        loss = distribution_matching(x0_hat, real, fake)
        logs = {
            "loss": loss,
            "apart": (fake - real).abs().mean(),
            "x0_hat_std": x0_hat.flatten(1).std(1).mean(),
        }
        return loss, {name: value.detach() for name, value in logs.items()}

    def simulate(self, batch: Batch, rng: Rng, level: int) -> tuple[Latent, Sigma]:
        """The states of one level: what the student reaches there from pure noise, or pictures with
        noise."""
        levels, eps = self.cfg.student_sigmas[: level + 1], rng.randn_like(batch.x0)
        sigma = at(levels[-1], eps)
        if self.cfg.from_picture(level):
            return path.interpolate(batch.x0, eps, sigma), sigma
        own = guided(self.student, batch.cond, None, 1)
        return state(self.sampler, own, eps, levels, rng), sigma

    def renoised(self, x0_hat: Latent, rng: Rng) -> tuple[Latent, Sigma, Latent]:
        """y, its level and its noise; no gradient reaches x0_hat."""
        sigma, eps = sigmas.uniform_shifted(rng, self.cfg.renoise_shift), rng.randn_like(x0_hat)
        return path.interpolate(x0_hat.detach(), eps, sigma), sigma, eps


def distribution_matching(x0_hat: Latent, real: Latent, fake: Latent) -> Tensor:
    """A loss whose gradient is (fake - real) / mean |x0_hat - real|, over the numbers in a batch.

    The mean is each sample's own, so that no level rules (arXiv:2311.18828, eq. 8).
    Its value is half the mean square of that step and says nothing about progress.
    """
    apart = (x0_hat.detach() - real).abs().flatten(1).mean(1).clamp(min=1e-6)
    step = (fake - real) / path.spread(apart, real)
    return F.mse_loss(x0_hat, (x0_hat - step).detach()) / 2
