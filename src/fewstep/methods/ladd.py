"""LADD: latent adversarial diffusion distillation (Sauer et al. 2024, arXiv:2403.12015).

    x      = (1 - sigma) x0 + sigma eps       x0: a teacher sample; sigma: a student level
    x0_hat = x - sigma v_student(x, sigma, c)
    F(x0)  = frozen teacher's features of x0 re-noised to a level of its own, logit-normal(m, s)
    heads    minimise  E real(D(F(x0))) + E fake(D(F(sg[x0_hat])))
    student  minimises E student(D(F(x0_hat)))

The heads move at every step, the student at every N-th, after the heads and against the moved
ones; at the start the heads have `heads_first` steps for themselves. On a step of both, the fakes
go through student and teacher once: the heads' phase works on the detached features, the student's
phase on the same features with their graph. The gradients are those of separate passes, bit for bit
(`tests/equivalence/test_one_pass.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone
from fewstep.flow import path, sigmas
from fewstep.methods.base import Logs, Phase
from fewstep.methods.health import health, spread
from fewstep.methods.judge import Fake, Judge
from fewstep.methods.losses import Adversarial, AdversarialName, adversarial, r1_approx, r1_exact
from fewstep.nets.ema import Ema
from fewstep.nets.heads import Heads, HeadsConfig
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma


@dataclass(frozen=True, kw_only=True)
class LADDConfig:
    name: Literal["ladd"] = "ladd"
    layers: tuple[int, ...]
    """Teacher blocks with a head; the deepest one decides how much of the teacher runs."""
    heads: HeadsConfig = field(default_factory=HeadsConfig)

    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler will visit (its grid without the final 0); here shift 3, 4 steps."""
    student_probs: tuple[float, ...] = (0.7, 0.1, 0.1, 0.1)
    """How often each level is trained. The paper: most at pure noise, the hardest
    (arXiv:2403.12015); on Shapes an even share was better."""
    warmup_probs: tuple[float, ...] = (0.0, 0.0, 0.5, 0.5)
    """The same during the first `warmup_steps`: easy levels first."""
    warmup_steps: int = 500
    """Steps of the loop (= moves of the heads) before `student_probs` apply."""
    student_every: int = 3
    """N: the student moves at steps N - 1, 2N - 1, ... from `heads_first` on, so the heads have
    always seen N batches."""
    heads_first: int = 50
    """Steps before the student's first move. New heads tell nothing: their gradients are tiny and
    random, but Adam makes full steps of them, and the student is spoilt before the game begins."""

    renoise_mean: float = 1.0
    """m: logit of the median re-noise level. High levels hide texture: heads judge structure."""
    renoise_std: float = 1.0
    renoise: Literal["shared", "independent"] = "shared"
    """Real and fake of one sample get one draw of level and noise, which leaves x0 against x0_hat
    as the only difference within a pair (less variance), or a draw each."""

    loss: AdversarialName = "hinge"
    misaligned_weight: float = 0.0
    """Weight of real pictures under a neighbour's text as additional fakes; 0 is off."""
    r1: Literal["none", "exact", "approx"] = "none"
    """Penalty on the slope of the heads: "exact" towards their input features, "approx" towards
    x0, by a perturbed x0 at the same noise level (one more teacher pass)."""
    r1_weight: float = 0.1
    r1_noise_std: float = 0.1
    """Size of the perturbation of x0 for r1 = "approx"."""

    ema_decay: float = 0.99
    """Of the student, counted in student moves; 0 exports the student as it is."""
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError(f"layers must name distinct teacher blocks, got {self.layers}")
        if not self.student_sigmas or not all(0 < s <= 1 for s in self.student_sigmas):
            raise ValueError(f"student_sigmas must lie in (0, 1], got {self.student_sigmas}")
        for name in ("student_probs", "warmup_probs"):
            sigmas.check_probs(name, getattr(self, name), self.student_sigmas)
        if self.student_every < 1:
            raise ValueError(f"student_every must be >= 1, got {self.student_every}")
        for name in ("warmup_steps", "heads_first"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name, value in (
            ("renoise_std", self.renoise_std),
            ("r1_weight", self.r1_weight),
            ("r1_noise_std", self.r1_noise_std),
        ):
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        if not self.misaligned_weight >= 0:
            raise ValueError(f"misaligned_weight must be >= 0, got {self.misaligned_weight}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")

    def student_moves(self, step: int) -> bool:
        return step >= self.heads_first and (step + 1) % self.student_every == 0

    def probs(self, step: int) -> tuple[float, ...]:
        """How often each student level is drawn at this step."""
        return self.warmup_probs if step < self.warmup_steps else self.student_probs


Fakes = dict[tuple[str, ...], Fake]
"""What the heads' phase hands to the student's phase, by the sample ids of the micro-batch."""


class LADD:
    """`fewstep.methods.base.Method` over a student, a frozen teacher and heads on the teacher.

    student  trained; starts as a copy of the teacher (or adapters over the same weights)
    teacher  frozen: no parameter may require grad, for gradients cross it and must stop nowhere
    heads    one for each of `cfg.layers`

    Memory: on a step on which the student moves, the graph of every micro-batch is kept between the
    two phases. With k micro-batches that is k times the activations of one.
    """

    def __init__(
        self, cfg: LADDConfig, *, student: Backbone, teacher: Backbone, heads: Heads
    ) -> None:
        if any(p.requires_grad for p in teacher.parameters()):
            raise ValueError("LADD's teacher must be frozen: call teacher.requires_grad_(False)")
        self.cfg = cfg
        self.student = student
        self.teacher = teacher
        self.heads = heads
        self.judge = Judge(teacher, heads, cfg.layers)
        self.ema = Ema(student, decay=cfg.ema_decay, warmup=cfg.ema_warmup)
        self.game: Adversarial = adversarial(cfg.loss)
        self.modules: Mapping[str, nn.Module] = {
            "student": student,
            "heads": heads,
            "ema": self.ema,
        }

    def exported(self) -> nn.Module:
        return self.ema.average

    def phases(self, step: int) -> Iterator[Phase]:
        fakes: Fakes | None = {} if self.cfg.student_moves(step) else None
        yield Phase("heads", self.heads, partial(self.heads_loss, step=step, fakes=fakes))
        if fakes is not None:
            yield Phase(
                "student",
                self.student,
                partial(self.student_loss, fakes=fakes),
                after=partial(self.ema.update, self.student),
            )

    def heads_loss(
        self, batch: Batch, rng: Rng, *, step: int, fakes: Fakes | None
    ) -> tuple[Tensor, Logs]:
        """The heads' loss; the fakes are put into `fakes`, if given, with their graph."""
        self.check(batch)
        with torch.no_grad() if fakes is None else nullcontext():
            x0_hat = self.denoise(batch, rng, self.cfg.probs(step))
            sigma, eps = self.draw_renoise(batch, rng)
            fake_view = self.judge.view(x0_hat, sigma, eps, batch.cond)
        if fakes is not None:
            fakes[batch.ids] = Fake(x0_hat=x0_hat, view=fake_view)
        fake = self.judge(fake_view.detached())

        if self.cfg.renoise == "independent":
            sigma, eps = self.draw_renoise(batch, rng)
        with torch.no_grad():
            real_view = self.judge.view(batch.x0, sigma, eps, batch.cond)
        if self.cfg.r1 == "exact":
            for tokens in real_view.features:
                tokens.requires_grad_()
        real = self.judge(real_view)

        real_loss, fake_loss = self.game.real(real).mean(), self.game.fake(fake).mean()
        logs = {"real_loss": real_loss, "fake_loss": fake_loss}
        if self.cfg.misaligned_weight > 0:
            w = self.cfg.misaligned_weight
            misaligned = self.judge.misaligned_loss(batch, sigma, eps, self.game)
            logs["misaligned_loss"] = misaligned
            # Weights of all fakes sum to one, so real and fake stay balanced.
            fake_loss = (fake_loss + w * misaligned) / (1 + w)
        loss = real_loss + fake_loss
        match self.cfg.r1:
            case "none":
                pass
            case "exact":
                logs["r1"] = r1 = r1_exact(real, real_view.features)
                loss = loss + self.cfg.r1_weight * r1
            case "approx":
                std = self.cfg.r1_noise_std
                with torch.no_grad():
                    near = batch.x0 + std * rng.randn_like(batch.x0)
                    near_view = self.judge.view(near, sigma, eps, batch.cond)
                logs["r1"] = r1 = r1_approx(real, self.judge(near_view), std)
                loss = loss + self.cfg.r1_weight * r1
            case _:
                assert_never(self.cfg.r1)

        logs |= {"loss": loss} | spread(x0_hat, batch.x0)
        logs |= health(self.heads, real, real_view.sigma, fake, fake_view.sigma)
        return loss, {name: value.detach() for name, value in logs.items()}

    def student_loss(self, batch: Batch, rng: Rng, *, fakes: Fakes) -> tuple[Tensor, Logs]:
        """The student's loss on the fakes that the heads' phase of this step has left.

        Nothing is drawn here: `rng` is unused, for the fakes bring their noise with them.
        """
        fake = fakes.pop(batch.ids)  # gradients cross the frozen teacher
        logits = self.judge(fake.view)
        loss = self.game.student(logits).mean()
        logs = {"loss": loss, "fake_logit": logits.mean()} | spread(fake.x0_hat, batch.x0)
        return loss, {name: value.detach() for name, value in logs.items()}

    def denoise(self, batch: Batch, rng: Rng, probs: tuple[float, ...]) -> Latent:
        """The student's one-step estimate of a teacher sample noised to one of its levels."""
        sigma = sigmas.choice(rng, self.cfg.student_sigmas, probs)
        x = path.interpolate(batch.x0, rng.randn_like(batch.x0), sigma)
        return path.to_x0(x, self.student(x, sigma, batch.cond), sigma)

    def draw_renoise(self, batch: Batch, rng: Rng) -> tuple[Sigma, Latent]:
        sigma = sigmas.logit_normal(rng, self.cfg.renoise_mean, self.cfg.renoise_std)
        return sigma, rng.randn_like(batch.x0)

    def check(self, batch: Batch) -> None:
        if len(batch) > 1:
            return
        if self.cfg.loss == "hinge":
            raise ValueError(
                "method.loss='hinge' got a micro-batch of 1: one sample soon keeps its margin and "
                "leaves the heads no gradient; use micro-batches of at least 2, or loss='softplus'"
            )
        if self.cfg.misaligned_weight > 0:
            raise ValueError(
                "method.misaligned_weight > 0 got a micro-batch of 1, which has no other text to "
                "pair with; use micro-batches of at least 2, or misaligned_weight=0"
            )
