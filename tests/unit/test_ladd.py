"""LADD: who gets which gradient, in which order; and that it works at all."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.ladd_steps import BASE, grads, ladd, run_step
from tests.toy import toy_batch
from torch import Tensor, nn
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.methods.base import Method
from fewstep.rng import Rng


def test_is_a_method() -> None:
    method: Method = ladd()
    assert set(method.modules) == {"student", "heads", "ema"}
    assert method.exported() is method.modules["ema"].get_submodule("module")


def test_trap6_student_phase_reaches_the_student_through_the_frozen_teacher_only() -> None:
    method = ladd()
    phases = list(method.phases(0))
    batch = toy_batch()
    phases[0].loss(batch, Rng(0, 0, "heads", batch.ids))
    loss, _ = phases[1].loss(batch, Rng(0, 0, "student", batch.ids))
    loss.backward(inputs=list(method.student.parameters()))
    assert all(g.abs().sum() > 0 for g in grads(method.student))
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is None for p in method.heads.parameters())


def test_trap7_heads_phase_cannot_reach_the_student() -> None:
    method = ladd()
    batch = toy_batch()
    loss, _ = next(method.phases(0)).loss(batch, Rng(0, 0, "heads", batch.ids))
    loss.backward()  # with respect to everything in its graph
    assert all(p.grad is None for p in method.student.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())
    assert any(g.abs().sum() > 0 for g in grads(method.heads))


def test_trap8_student_is_judged_by_the_heads_after_their_move() -> None:
    batch = toy_batch()
    method = ladd()
    lrs = {"heads": 0.5, "student": 0.0}
    moved, _ = run_step(method, [batch], lrs=lrs)  # leaves the heads where step 0 has moved them
    after = ladd()
    after.heads.load_state_dict(method.heads.state_dict())
    expected, _ = run_step(after, [batch])  # the same fakes, judged by these heads from the start
    stale, _ = run_step(ladd(), [batch])
    for got, want, old in zip(moved["student"], expected["student"], stale["student"], strict=True):
        assert_close(got, want, rtol=0, atol=0)
        assert not torch.allclose(got, old, rtol=1e-2)


def test_schedule_is_said_in_phases() -> None:
    method = ladd(replace(BASE, student_every=3))
    names = [[p.name for p in method.phases(step)] for step in range(6)]
    both = ["heads", "student"]
    assert names == [["heads"], ["heads"], both] * 2


def test_the_heads_have_the_first_steps_for_themselves() -> None:
    method = ladd(replace(BASE, student_every=2, heads_first=4))
    assert [len(list(method.phases(step))) for step in range(8)] == [1, 1, 1, 1, 1, 2, 1, 2]


def test_heads_only_steps_build_no_graph_of_the_student() -> None:
    method = ladd(replace(BASE, student_every=2))
    calls: list[bool] = []
    method.student.register_forward_hook(lambda _m, _i, v: calls.append(v.requires_grad))
    run_step(method, [toy_batch()], step=0)
    run_step(method, [toy_batch()], step=1)
    assert calls == [False, True]


def test_nothing_of_a_step_stays_behind() -> None:
    method = ladd()
    before = set(vars(method))
    (_, student), batch = list(method.phases(0)), toy_batch()
    with pytest.raises(KeyError):
        student.loss(batch, Rng(0, 0, "student", batch.ids))  # no heads phase, no fakes
    run_step(method, [batch])
    assert set(vars(method)) == before
    heads, student = list(method.phases(0))
    heads.loss(batch, Rng(0, 0, "heads", batch.ids))
    student.loss(batch, Rng(0, 0, "student", batch.ids))
    with pytest.raises(KeyError):  # its graph is let go of micro-batch by micro-batch
        student.loss(batch, Rng(0, 0, "student", batch.ids))
    _, later = list(method.phases(1))
    with pytest.raises(KeyError):
        later.loss(batch, Rng(0, 1, "student", batch.ids))


@pytest.mark.parametrize("loss", ["hinge", "softplus"])
def test_trap9_each_head_gets_its_gradient_when_one_is_saturated(loss: Any) -> None:
    method = ladd(replace(BASE, loss=loss))
    sure = next(method.heads.each())
    with torch.no_grad():
        assert sure.judge.bias is not None
        sure.judge.weight.zero_()
        sure.judge.bias.fill_(-100)  # far beyond every margin on fakes
    run_step(method, [toy_batch()])
    other = list(method.heads.each())[1]
    # The last bias is moved by +1 and -1 alike while all logits lie inside the margin.
    assert all(g.abs().sum() > 0 for g in grads(other)[:-1])


def test_trap23_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    """Not so with misaligned pairs: each takes the text of its neighbour in the micro-batch."""
    batch = toy_batch(16)
    halves = [
        Batch(ids=batch.ids[rows], x0=batch.x0[rows], cond=batch.cond[rows])
        for rows in (slice(0, 8), slice(8, 16))
    ]
    for cfg in (BASE, replace(BASE, renoise="independent", r1="approx", loss="softplus")):
        whole, _ = run_step(ladd(cfg), [batch])
        split, _ = run_step(ladd(cfg), halves)
        for name in ("heads", "student"):
            for a, b in zip(whole[name], split[name], strict=True):
                assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_trap26_ema_follows_student_moves_only_and_is_exported() -> None:
    method = ladd(replace(BASE, student_every=2, ema_warmup=False))
    start = copy.deepcopy(method.student.state_dict())
    lrs = {"heads": 0.1, "student": 0.1}
    run_step(method, [toy_batch()], step=0, lrs=lrs)
    assert int(method.ema.updates) == 0
    run_step(method, [toy_batch()], step=1, lrs=lrs)
    assert int(method.ema.updates) == 1
    for name, weight in method.exported().named_parameters():
        assert_close(weight, 0.5 * start[name] + 0.5 * method.student.get_parameter(name))


def test_toy_student_moves_to_the_data() -> None:
    """Two modes in the plane (a latent of one pixel, two channels), one step from pure noise."""
    cfg = replace(
        BASE,
        layers=(0, 1, 2),
        loss="softplus",
        renoise_mean=-0.5,
        student_sigmas=(1.0,),
        student_probs=(1.0,),
        warmup_probs=(1.0,),
        ema_decay=0.9,
    )
    method = ladd(cfg, patch=1, width=32)
    modes = torch.tensor([[1.5, 0.5], [-1.5, -0.5]])
    text = torch.zeros(1, 6)

    def from_modes(student: nn.Module) -> Tensor:
        """Distances (samples, modes) of what the student draws."""
        eps = Rng(5, 0, "eval", range(256)).randn(2, 1, 1)
        with torch.no_grad():
            x0_hat = eps - student(eps, torch.ones(256), Cond((text,) * 256))
        return torch.cdist(x0_hat.flatten(1), modes)

    before = from_modes(method.student).min(1).values.mean()
    optims = {
        "heads": torch.optim.Adam(method.heads.parameters(), 3e-3, betas=(0.0, 0.99)),
        "student": torch.optim.Adam(method.student.parameters(), 2e-3, betas=(0.0, 0.99)),
    }
    for step in range(320):
        ids = tuple(f"{step}-{i}" for i in range(32))
        rng = Rng(0, step, "data", ids)
        x0 = modes[(rng.rand() * 2).long()] + 0.1 * rng.randn(2)
        batch = Batch(ids=ids, x0=x0.view(32, 2, 1, 1), cond=Cond((text,) * 32))
        for phase in method.phases(step):
            loss, _ = phase.loss(batch, Rng(0, step, phase.name, ids))
            optims[phase.name].zero_grad()
            loss.backward(inputs=list(phase.module.parameters()))
            optims[phase.name].step()
            phase.after()
    distances = from_modes(method.exported())
    assert distances.min(1).values.mean() < 0.5 * before
    share = (distances.argmin(1) == 0).float().mean()
    assert 0.2 < share < 0.8  # both modes, not one
