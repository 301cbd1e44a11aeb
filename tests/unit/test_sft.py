"""SFT: plain flow matching at the student's levels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.gaussians import Affine, known
from tests.toy import ToyBackbone, toy_batch
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.flow.sigmas import choice
from fewstep.methods.sft import SFT, SFTConfig
from fewstep.rng import Rng

CFG = SFTConfig(student_probs=(0.1, 0.1, 0.1, 0.7), ema_decay=0.0)


def test_loss_by_hand() -> None:
    method, batch = SFT(CFG, student=ToyBackbone()), toy_batch()
    loss, _ = method.loss(batch, Rng(0, 0, "student", batch.ids))
    rng = Rng(0, 0, "student", batch.ids)
    sigma = choice(rng, CFG.student_sigmas, CFG.student_probs)
    eps, s = rng.randn_like(batch.x0), sigma[:, None, None, None]
    v = method.student((1 - s) * batch.x0 + s * eps, sigma, batch.cond)
    assert_close(loss, ((v - (eps - batch.x0)) ** 2).mean())


def test_at_pure_noise_the_student_learns_the_mean_and_forgets_the_noise() -> None:
    student = Affine(0.0, 1.0)
    cfg = SFTConfig(student_sigmas=(1.0,), student_probs=(1.0,), ema_decay=0.0)
    method, optim = SFT(cfg, student=student), torch.optim.Adam(student.parameters(), lr=0.05)
    ids = tuple(str(i) for i in range(8))
    x0 = 2 + 0.5 * Rng(0, 0, "data", ids).randn(1, 4, 4)
    for step in range(200):
        optim.zero_grad()
        batch = Batch(ids=ids, x0=x0, cond=known(8))
        method.loss(batch, Rng(0, step, "student", ids))[0].backward()
        optim.step()
    assert student.mean.item() == pytest.approx(x0.mean().item(), abs=0.1)
    assert student.std.item() == pytest.approx(0, abs=0.1)


def test_config_errors() -> None:
    with pytest.raises(ValueError, match="student_probs must be >= 0 and sum to 1"):
        replace(CFG, student_probs=(0.5, 0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match="ema_decay must lie in"):
        replace(CFG, ema_decay=1.0)
    with pytest.raises(ValueError, match="sigmas must fall strictly"):
        replace(CFG, student_sigmas=(0.5, 1.0))


def test_only_the_student_has_state() -> None:
    method = SFT(CFG, student=ToyBackbone())
    assert set(method.modules) == {"student", "ema"}
    assert [phase.name for phase in method.phases(3)] == ["student"]
    assert torch.equal(
        next(iter(method.exported().parameters())), next(iter(method.student.parameters()))
    )
