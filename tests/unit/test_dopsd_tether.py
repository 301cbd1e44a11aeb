"""D-OPSD's tether: where it pulls, from what, and how hard at most."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.toy import toy_batch
from tests.unit.test_dopsd import BATCH, CFG, PRIOR, by_parts, dopsd
from torch.testing import assert_close

from fewstep.flow.sample import trajectory
from fewstep.methods.distil import TeacherConfig
from fewstep.rng import Rng


def test_the_tether_pulls_towards_the_model_before_and_from_other_prompts_alone() -> None:
    free = dopsd(replace(CFG, teacher=TeacherConfig(decay=0.0)))
    same = replace(BATCH, context=BATCH.cond)
    tied = dopsd(replace(free.cfg, tether_weight=2.0))
    found, value, logs = by_parts(tied, same)
    assert value < 1e-11 and logs["tether"] < 1e-11  # still the model before training
    moved = dopsd(replace(tied.cfg, tether="mse"), student=2)
    found, value, logs = by_parts(moved, same)
    assert value == pytest.approx(logs["tether"].item()) and value > 1e-2
    assert logs["distil"] < 1e-11
    own = Rng(0, 0, "student prior", PRIOR.ids)
    student = lambda x, sigma: moved.student(x, sigma, PRIOR.cond)  # noqa: E731
    states = list(trajectory(student, own.randn_like(PRIOR.x0), (*CFG.student_sigmas, 0.0)))[:-1]
    right = [
        (student(x.detach(), s) - moved.base(x.detach(), s, PRIOR.cond)).square().mean()
        for x, s in states
    ]
    assert value == pytest.approx(2 * torch.stack(right).mean().item(), rel=1e-5)
    # the pictures and their prompts have no part in it
    others = replace(toy_batch(seed=8), ids=BATCH.ids)
    again = by_parts(moved, replace(same, x0=others.x0, cond=others.cond, context=others.cond))[0]
    for name, g in found.items():
        assert_close(again[name], g, rtol=1e-4, atol=1e-5 * g.abs().max().item())
    with pytest.raises(ValueError, match=r"tether_weight = 2.0 needs samples of other prompts"):
        by_parts(tied, replace(BATCH, prior=None))


def test_the_huber_tether_is_bounded() -> None:
    method = dopsd(replace(CFG, tether_weight=3.0))
    v = torch.tensor([0.03, -2.0], requires_grad=True)
    method.held(v, torch.zeros(2)).backward()
    assert v.grad is not None
    assert_close(v.grad, 3 * torch.tensor([0.03, -0.08]) / 2)
