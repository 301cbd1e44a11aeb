"""SDA: semantic directional alignment, an adapter that gives a few-step model its diversity back
(model card F16/z-image-turbo-sda, 2026).

    x_i      = (1 - sigma) x0 + sigma eps_i        one x0, one prompt, one level of the student
    x0_hat_i = x_i - sigma v(x_i, sigma, c)        of the student and of the teacher
    alike    = 1 - cos(P(student's x0_hat_i - x0_hat_j), P(teacher's))        P: average pooling
    anchor   = huber(v_student, sg[v_base])        base: the student without its adapter

Where the noise moves the teacher's picture, the student's has to follow. The cosine asks for the
direction alone, so the student keeps its contrast. The card writes x0_hat = z - v, which is right
at sigma = 1 only; `estimate = "card"` is there to measure what that costs.

With an assistant (an adapter that undoes the distillation) the first noise and the anchor see the
student with it and all other noises the student without it: the collapsed model itself is pushed.
Those are two trees over the same adapter, not a switch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.flow import path, sigmas
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, at, euler_from, state
from fewstep.methods.base import Logs, Phase
from fewstep.methods.losses import huber, length, low_pass
from fewstep.nets.adapters import Adapted, adapters_of
from fewstep.nets.ema import Ema
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma

Decode = Callable[[Latent], Tensor]
"""x0 to pixels, with gradients."""


@dataclass(frozen=True, kw_only=True)
class SDAConfig:
    name: Literal["sda"] = "sda"
    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler visits (its grid without the final 0)."""
    turns: tuple[int, ...] = (0, 1, 2, 3)
    """Which of them a step works on, over and over: repeat one that needs more training."""
    states: Literal["samples", "own"] = "samples"
    """Where x comes from: a picture noised to the level, the same for all noises, or what the
    student itself reaches there from each noise, for which no picture is needed."""
    gate: int = 1
    """So many of the last levels have the anchor alone: what is drawn there is sharpness."""
    noises: int = 2
    """Noises for each prompt; all pairs of them are compared."""
    pool: int | None = 8
    """Side of the average pooling in `domain`; 1 compares every position, none the means alone."""
    domain: Literal["latent", "decoded"] = "latent"
    """Whether differences of latents or of decoded pictures are compared."""
    distance: Literal["cosine", "mse"] = "cosine"
    estimate: Literal["straight", "card"] = "straight"
    """x - sigma v, or the card's x - v."""
    teacher_steps: int = 1
    """Model calls for the teacher's x0_hat; more than one goes on along its own path, Euler on
    equal steps of sigma, and so tells where the noise leads instead of the mean of all pictures."""
    guidance: float = 1.0
    """w of the teacher."""
    alike_weight: float = 1.0
    anchor_weight: float = 1.0
    hold_weight: float = 1.0
    """Of the anchor at the gated levels, where nothing pulls against it: more of it keeps what is
    drawn there sharp while the adapter changes the levels before."""
    anchor_delta: float = 0.08
    """Where the anchor turns from a square into a straight line."""
    ema_decay: float = 0.99
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        sigmas.check_grid((*self.student_sigmas, 0.0))
        sigmas.check_turns(self.turns, self.student_sigmas)
        if not 0 <= self.gate < len(self.student_sigmas):
            raise ValueError(
                f"gate must leave one of the {len(self.student_sigmas)} student_sigmas open, "
                f"got {self.gate}"
            )
        for name, least in (("noises", 2), ("teacher_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if self.pool is not None and self.pool < 1:
            raise ValueError(f"pool must be >= 1, or none for the means alone, got {self.pool}")
        if not 1 <= self.guidance < math.inf:
            raise ValueError(f"guidance must be >= 1 and finite, got {self.guidance}")
        for name in ("alike_weight", "anchor_weight", "hold_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be >= 0 and finite, got {getattr(self, name)}")
        if not self.anchor_delta > 0:
            raise ValueError(f"anchor_delta must be > 0, got {self.anchor_delta}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")

    def is_open(self, level: int) -> bool:
        """Whether differences are compared at this level."""
        return level < len(self.student_sigmas) - self.gate


@dataclass(frozen=True, kw_only=True)
class Assisted:
    """The model with the assistant in it: under the adapter that trains, and alone."""

    student: Backbone
    base: Backbone

    @classmethod
    def over(cls, student: Backbone, on_top: Backbone, base: Backbone) -> Assisted:
        """Give `on_top`, `base` with an adapter of its own, that of `student` instead."""
        trained, own = adapters_of(student), adapters_of(on_top)
        if trained.keys() != own.keys():
            raise ValueError("the two students must be adapted in the same layers")
        for layer in on_top.modules():
            if isinstance(layer, Adapted) and own.get(layer.name) is layer.adapter:
                layer.adapter = trained[layer.name]
        return cls(student=on_top, base=base)


class SDA:
    """`fewstep.methods.base.Method` over adapters on a few-step model.

    student  what trains: adapters on a frozen model, or a whole copy of it
    base     the same model without them, frozen
    teacher  the many-step model, frozen
    sampler  how the student goes from level to level, in training as in use
    uncond   the condition of no prompt, (1,); needed where `cfg.guidance` is not 1
    decode   needed where `cfg.domain` is "decoded"
    assisted trees that hold the assistant too; their trained adapter is that of `student`
    """

    def __init__(
        self, cfg: SDAConfig, *, student: Backbone, base: Backbone, teacher: Backbone,
        sampler: SamplerName, uncond: Cond | None = None, decode: Decode | None = None,
        assisted: Assisted | None = None,
    ) -> None:  # fmt: skip
        for name, frozen in (("base", base), ("teacher", teacher)):
            if any(p.requires_grad for p in frozen.parameters()):
                raise ValueError(f"SDA's {name} must be frozen: call {name}.requires_grad_(False)")
        if cfg.domain == "decoded" and decode is None:
            raise ValueError("method.domain = decoded needs a decoder with gradients")
        self.cfg = cfg
        self.student, self.base, self.teacher = student, base, teacher
        self.sampler: SamplerName = sampler
        self.uncond, self.decode, self.assisted = uncond, decode, assisted
        self.ema = Ema(student, decay=cfg.ema_decay, warmup=cfg.ema_warmup)
        self.modules: Mapping[str, nn.Module] = {"student": student, "ema": self.ema}

    def exported(self) -> nn.Module:
        return self.ema.average

    def phases(self, step: int) -> Iterator[Phase]:
        level = self.cfg.turns[step % len(self.cfg.turns)]
        yield Phase(
            "student", self.student, partial(self.loss, level=level),
            after=partial(self.ema.update, self.student),
        )  # fmt: skip

    def loss(self, batch: Batch, rng: Rng, *, level: int) -> tuple[Tensor, Logs]:
        xs = [self.reach(batch, rng, level) for _ in range(self.cfg.noises)]
        sigma = at(self.cfg.student_sigmas[level], batch.x0)
        return self.compare(xs, sigma, batch.cond, differ=self.cfg.is_open(level))

    @torch.no_grad()
    def reach(self, batch: Batch, rng: Rng, level: int) -> Latent:
        """The state at a level that one noise leads to."""
        eps, levels = rng.randn_like(batch.x0), self.cfg.student_sigmas[: level + 1]
        match self.cfg.states:
            case "samples":
                return path.interpolate(batch.x0, eps, at(levels[-1], eps))
            case "own":
                own = guided(self.student, batch.cond, None, 1)
                return state(self.sampler, own, eps, levels, rng)
            case _:
                assert_never(self.cfg.states)

    def compare(
        self, xs: list[Latent], sigma: Sigma, cond: Cond, *, differ: bool
    ) -> tuple[Tensor, Logs]:
        """The loss at given states of one level, one for each noise; without `differ` the anchor
        alone."""
        first = self.assisted or Assisted(student=self.student, base=self.base)
        if self.assisted is not None and not differ:
            xs = xs[:1]  # with an assistant, only the first noise is anchored
        vs = [first.student(xs[0], sigma, cond), *(self.student(x, sigma, cond) for x in xs[1:])]
        with torch.no_grad():
            anchors = [first.base(xs[0], sigma, cond)]
            if self.assisted is None:
                anchors += [self.base(x, sigma, cond) for x in xs[1:]]
        pairs = zip(vs[: len(anchors)], anchors, strict=True)
        anchor = torch.stack([huber(v, goal, self.cfg.anchor_delta) for v, goal in pairs]).mean()
        loss = (self.cfg.anchor_weight if differ else self.cfg.hold_weight) * anchor
        logs: Logs = {"anchor": anchor}
        if differ:
            with torch.no_grad():
                goals = [self.seen(self.teach(x, sigma, cond)) for x in xs]
            ours = [self.seen(self.clean(x, v, sigma)) for x, v in zip(xs, vs, strict=True)]
            apart = [
                (ours[i] - ours[j], goals[i] - goals[j]) for i, j in combinations(range(len(xs)), 2)
            ]
            alike = torch.stack([self.apart(own, goal) for own, goal in apart]).mean()
            size = torch.stack([length(own) / length(goal) for own, goal in apart]).mean()
            loss = loss + self.cfg.alike_weight * alike
            logs |= {"alike": alike, "size": size}
        logs["loss"] = loss
        return loss, {name: value.detach() for name, value in logs.items()}

    def teach(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        """The teacher's estimate of x0."""
        uncond = None if self.uncond is None else Cond.cat([self.uncond] * len(x))
        model = guided(self.teacher, cond, uncond, self.cfg.guidance)
        if self.cfg.teacher_steps == 1:
            return self.clean(x, model(x, sigma), sigma)
        return euler_from(model, x, sigma, self.cfg.teacher_steps)

    def clean(self, x: Latent, v: Latent, sigma: Sigma) -> Latent:
        match self.cfg.estimate:
            case "straight":
                return path.to_x0(x, v, sigma)
            case "card":
                return x - v
            case _:
                assert_never(self.cfg.estimate)

    def seen(self, x0: Latent) -> Tensor:
        """What is compared of a clean estimate."""
        if self.cfg.domain == "decoded":
            assert self.decode is not None
            x0 = self.decode(x0)
        return low_pass(x0, self.cfg.pool)

    def apart(self, ours: Tensor, goal: Tensor) -> Tensor:
        """(b,): how far the student's difference is from the teacher's."""
        match self.cfg.distance:
            case "cosine":
                return 1 - F.cosine_similarity(ours.flatten(1), goal.flatten(1))
            case "mse":
                return (ours - goal).square().flatten(1).mean(1)
            case _:
                assert_never(self.cfg.distance)
