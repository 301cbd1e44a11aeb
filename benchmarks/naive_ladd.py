"""The naive LADD step: what `fewstep.methods.ladd` must equal, written without sharing anything.

Each phase makes its own fakes: on a step on which the student moves, that is two student forwards
and three teacher passes instead of one and two. Its draws are those of the method under test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.methods.base import Logs, Phase
from fewstep.methods.ladd import LADD
from fewstep.rng import Rng


class NaiveLADD:
    """The phases of `ladd`, over its modules, with separate passes. Without R1 or misaligned pairs.

    `seed` is the training seed, for the student's phase has to repeat the draws of the heads'.
    """

    def __init__(self, ladd: LADD, *, seed: int) -> None:
        if ladd.cfg.r1 != "none" or ladd.cfg.misaligned_weight > 0:
            raise ValueError("the naive step knows no R1 and no misaligned pairs: switch them off")
        self.ladd = ladd
        self.seed = seed
        self.modules: Mapping[str, nn.Module] = ladd.modules

    def exported(self) -> nn.Module:
        return self.ladd.exported()

    def phases(self, step: int) -> Iterator[Phase]:
        ladd = self.ladd
        yield Phase("heads", ladd.heads, partial(self.heads_loss, step=step))
        if ladd.cfg.student_moves(step):
            after = partial(ladd.ema.update, ladd.student)
            yield Phase("student", ladd.student, partial(self.student_loss, step=step), after)

    def heads_loss(self, batch: Batch, rng: Rng, *, step: int) -> tuple[Tensor, Logs]:
        ladd = self.ladd
        with torch.no_grad():
            x0_hat = ladd.denoise(batch, rng, ladd.cfg.probs(step))
            sigma, eps = ladd.draw_renoise(batch, rng)
            fake_view = ladd.judge.view(x0_hat, sigma, eps, batch.cond)
            if ladd.cfg.renoise == "independent":
                sigma, eps = ladd.draw_renoise(batch, rng)
            real_view = ladd.judge.view(batch.x0, sigma, eps, batch.cond)
        fake, real = ladd.judge(fake_view), ladd.judge(real_view)
        return ladd.game.real(real).mean() + ladd.game.fake(fake).mean(), {}

    def student_loss(self, batch: Batch, rng: Rng, *, step: int) -> tuple[Tensor, Logs]:
        ladd = self.ladd
        same = Rng(self.seed, step, "heads", batch.ids, rng.device)
        x0_hat = ladd.denoise(batch, same, ladd.cfg.probs(step))
        sigma, eps = ladd.draw_renoise(batch, same)
        fake = ladd.judge(ladd.judge.view(x0_hat, sigma, eps, batch.cond))
        return ladd.game.student(fake).mean(), {}
