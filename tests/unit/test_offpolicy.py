"""Off-policy distillation: D-OPSD on other states, and the same where the states are the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor
from torch.testing import assert_close

from fewstep.flow.sample import SamplerName, at, trajectory
from fewstep.methods.distil import TeacherConfig
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.methods.offpolicy import OffPolicy, OffPolicyConfig
from fewstep.rng import Rng
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import run_step

CFG = OffPolicyConfig(teacher=TeacherConfig(decay=None))
BATCH = replace(toy_batch(), context=toy_batch(seed=3).cond)


def trees() -> tuple[ToyBackbone, ToyBackbone]:
    """Student and base, which differ."""
    return ToyBackbone(seed=2), ToyBackbone(seed=1).requires_grad_(False)


NONE = toy_batch(1, seed=9).cond


def offpolicy(cfg: OffPolicyConfig = CFG, sampler: SamplerName = "euler") -> OffPolicy:
    student, base = trees()
    return OffPolicy(cfg, student=student, base=base, sampler=sampler, uncond=NONE)


def on_policy(cfg: DOPSDConfig) -> DOPSD:
    student, base = trees()
    return DOPSD(cfg, student=student, base=base, sampler="euler", uncond=NONE)


def rng() -> Rng:
    return Rng(0, 0, "student", BATCH.ids)


def gradient(method: OffPolicy | DOPSD) -> list[Tensor]:
    for loss, _ in method.parts(BATCH, rng()):
        loss.backward()
    return [p.grad for p in method.student.parameters() if p.grad is not None]


def seen(method: OffPolicy) -> list[Tensor]:
    found: list[Tensor] = []
    method.teacher.module.register_forward_pre_hook(lambda _m, args: found.append(args[0]))
    gradient(method)
    return found


def test_states_are_noised_pictures() -> None:
    eps = rng().randn_like(BATCH.x0)
    found = seen(offpolicy())
    for x, sigma in zip(found, CFG.student_sigmas, strict=True):
        assert_close(x, (1 - sigma) * BATCH.x0 + sigma * eps)


def test_states_are_the_teachers_roll_out_in_its_context() -> None:
    method = offpolicy(replace(CFG, states="teacher"))
    teacher = lambda x, sigma: method.teacher.module(x, sigma, BATCH.context)  # noqa: E731
    noise = rng().randn_like(BATCH.x0)
    with torch.no_grad():
        right = list(trajectory(teacher, noise, (*CFG.student_sigmas, 0.0)))[:-1]
    for x, (expected, _) in zip(seen(method), right, strict=True):
        assert_close(x, expected, rtol=0, atol=1e-6)


def test_the_teacher_goes_on_by_the_sampler_of_use() -> None:
    method, draws = offpolicy(replace(CFG, states="teacher"), sampler="renoise"), rng()
    first, second = draws.randn_like(BATCH.x0), draws.randn_like(BATCH.x0)
    found = seen(method)
    with torch.no_grad():
        x0_hat = first - method.teacher.module(first, at(1.0, first), BATCH.context)
    assert_close(found[1], 0.1 * x0_hat + 0.9 * second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("states", ["samples", "teacher"])
def test_guided_and_averaged_it_is_d_opsd_at_pure_noise(states: str) -> None:
    teacher = TeacherConfig(decay=0.5, follow=0.0, guidance=3.0)
    one = {"student_sigmas": (1.0,), "teacher": teacher}
    off = offpolicy(OffPolicyConfig(**one, states=states))  # pyright: ignore[reportArgumentType]
    on = on_policy(DOPSDConfig(**one))  # pyright: ignore[reportArgumentType]
    for method in (off, on):
        optim = Optim(OptimConfig(), method.student, total=2)
        for step in range(2):
            assert run_step(method, [BATCH], {"student": optim}, {}, seed=0, step=step) is None
    for name, p in off.student.state_dict().items():
        assert torch.equal(p, on.student.state_dict()[name]), name
    shadow, start = off.teacher.module.state_dict(), trees()[0].state_dict()
    assert not torch.equal(shadow["leave.bias"], start["leave.bias"])


def test_loss_by_hand() -> None:
    method = offpolicy(replace(CFG, form="mu"))
    value = sum(loss.item() for loss, _ in method.parts(BATCH, rng()))
    eps, grid = rng().randn_like(BATCH.x0), (*CFG.student_sigmas, 0.0)
    right = []
    for here, there in pairwise(grid):
        x, sigma = (1 - here) * BATCH.x0 + here * eps, at(here, eps)
        v, goal = (
            method.student(x, sigma, BATCH.cond),
            method.teacher.module(x, sigma, BATCH.context),
        )
        right.append((here - there) ** 2 * (v - goal).square().mean().item())
    assert value == pytest.approx(sum(right) / 4, rel=1e-5)


@pytest.mark.parametrize("states", ["samples", "teacher"])
def test_it_is_on_policy_where_the_states_are(states: str) -> None:
    """At pure noise all begin alike, and further on they go their ways."""
    one = {"student_sigmas": (1.0,), "teacher": CFG.teacher}
    off = offpolicy(OffPolicyConfig(**one, states=states))  # pyright: ignore[reportArgumentType]
    on = on_policy(DOPSDConfig(**one))  # pyright: ignore[reportArgumentType]
    for a, b in zip(gradient(off), gradient(on), strict=True):
        assert torch.equal(a, b)
    off = offpolicy(replace(CFG, states="teacher"))
    on = on_policy(DOPSDConfig(teacher=CFG.teacher))
    differ = [not torch.allclose(a, b) for a, b in zip(gradient(off), gradient(on), strict=True)]
    assert any(differ)


@pytest.mark.parametrize("states", ["samples", "teacher"])
def test_nothing_is_to_be_learnt_where_the_teacher_sees_the_same(states: str) -> None:
    method = offpolicy(replace(CFG, states=states, teacher=TeacherConfig()))  # pyright: ignore
    same = replace(BATCH, context=BATCH.cond)
    assert sum(loss.item() for loss, _ in method.parts(same, rng())) < 1e-11
    assert sum(loss.item() for loss, _ in method.parts(BATCH, rng())) > 1e-3


def test_a_subset_asks_nobody_elsewhere() -> None:
    method = offpolicy(replace(CFG, visits=2))
    assert len(list(method.parts(BATCH, rng()))) == 2
    assert method.student.forwards == method.teacher.module.forwards == 2  # pyright: ignore


def test_what_is_exported_and_refused() -> None:
    method = offpolicy(replace(CFG, teacher=TeacherConfig()))
    assert method.exported() is method.student
    assert set(method.modules) == {"student", "ema"}
    with pytest.raises(ValueError, match=r"visits must lie in 1 \.\. 4"):
        replace(CFG, visits=9)
    with pytest.raises(ValueError, match="what its teacher sees of each sample"):
        list(method.parts(toy_batch(), rng()))
