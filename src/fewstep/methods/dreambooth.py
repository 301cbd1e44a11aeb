"""DreamBooth: flow matching on a few pictures of something new, with prior preservation
(Ruiz et al. 2022, arXiv:2208.12242, eq. 2).

    loss = FM(the pictures) + prior_weight FM(samples of other prompts)

FM is the loss of SFT, at the levels of the few-step model. The samples are the model's own from
before the training, so that it stays what it was on prompts that do not name the new thing.
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
from fewstep.methods.base import Part, PhaseInParts, of_prior
from fewstep.methods.losses import flow_matching
from fewstep.nets.ema import Ema
from fewstep.rng import Rng


@dataclass(frozen=True, kw_only=True)
class DreamBoothConfig:
    name: Literal["dreambooth"] = "dreambooth"
    student_sigmas: tuple[float, ...] = (1.0, 0.9, 0.75, 0.5)
    """The levels the sampler visits (its grid without the final 0)."""
    student_probs: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """How often each is trained."""
    prior_weight: float = 1.0
    """Of the samples of other prompts; 0 is SFT and needs none."""
    ema_decay: float = 0.99
    ema_warmup: bool = True

    def __post_init__(self) -> None:
        sigmas.check_grid((*self.student_sigmas, 0.0))
        sigmas.check_probs("student_probs", self.student_probs, self.student_sigmas)
        if not self.prior_weight >= 0:
            raise ValueError(f"prior_weight must be >= 0, got {self.prior_weight}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")


class DreamBooth:
    """`fewstep.methods.base.Method` over a student alone."""

    def __init__(self, cfg: DreamBoothConfig, *, student: Backbone) -> None:
        self.cfg, self.student = cfg, student
        self.ema = Ema(student, decay=cfg.ema_decay, warmup=cfg.ema_warmup)
        self.modules: Mapping[str, nn.Module] = {"student": student, "ema": self.ema}

    def exported(self) -> nn.Module:
        return self.ema.average

    def phases(self, step: int) -> Iterator[PhaseInParts]:
        yield PhaseInParts(
            "student", self.student, self.parts, after=partial(self.ema.update, self.student)
        )

    def parts(self, batch: Batch, rng: Rng) -> Iterator[Part]:
        """The pictures, then the samples of other prompts."""
        cfg = self.cfg
        concept = self.matched(batch, rng)
        yield concept, {"concept": concept.detach()}
        if cfg.prior_weight > 0:
            why = f"method.prior_weight = {cfg.prior_weight}"
            yield from of_prior(batch, rng, why, self.preserved)

    def preserved(self, others: Batch, rng: Rng) -> Iterator[Part]:
        """The samples of other prompts."""
        prior = self.matched(others, rng)
        yield self.cfg.prior_weight * prior, {"prior": prior.detach()}

    def matched(self, batch: Batch, rng: Rng) -> Tensor:
        """FM of these samples, at levels drawn for them."""
        cfg = self.cfg
        return flow_matching(self.student, batch, rng, cfg.student_sigmas, cfg.student_probs)
