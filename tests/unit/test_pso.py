"""PSO against closed forms, of the loss and of what it leads to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.gaussians import Affine, known
from tests.toy import ToyBackbone, toy_batch
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.flow.sample import euler, renoise
from fewstep.flow.sigmas import choice
from fewstep.methods.losses import preference
from fewstep.methods.pso import PSO, PSOConfig
from fewstep.rng import Rng
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import run_step

CFG = PSOConfig(student_sigmas=(1.0,), student_probs=(1.0,), beta=2.0, ema_decay=0.0)


def drawn(student: float, base: float, cfg: PSOConfig = CFG) -> PSO:
    """Students of one step that answer every noise with one number."""
    return PSO(
        cfg, student=Affine(student, 0.0), base=Affine(base, 0.0).requires_grad_(False),
        sampler="euler",
    )  # fmt: skip


def pictures(value: float) -> Batch:
    ids = tuple("abcd")
    return Batch(ids=ids, x0=torch.full((4, 1, 2, 2), value), cond=known(4))


def test_preference_is_the_logistic_loss() -> None:
    target, own = torch.tensor([0.3, -0.2], requires_grad=True), torch.tensor([0.1, 0.4])
    loss = preference(target, own, 2.0)
    right = [math.log(1 + math.exp(2 * d)) for d in (0.2, -0.6)]
    assert loss.item() == pytest.approx(sum(right) / 2, rel=1e-6)
    loss.backward()
    assert target.grad is not None
    slopes = [2 / (1 + math.exp(-2 * d)) / 2 for d in (0.2, -0.6)]
    assert_close(target.grad, torch.tensor(slopes))


@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_loss_and_gradient_in_closed_form(mean: float) -> None:
    """At pure noise v = eps - m, so e(x0) = (m - x0)^2 - (m_base - x0)^2, and the own picture is m,
    where its error has no slope."""
    target = 1.5
    method, batch = drawn(mean, 0.0), pictures(target)
    loss, logs = method.loss(batch, Rng(0, 0, "student", batch.ids))
    e_target, e_own = (mean - target) ** 2 - target**2, 0 - mean**2
    z = 2.0 * (e_target - e_own)
    assert logs["target"].item() == pytest.approx(e_target, abs=1e-5)
    assert logs["own"].item() == pytest.approx(e_own, abs=1e-5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(z)), rel=1e-5)
    loss.backward()
    student = method.student
    assert isinstance(student, Affine) and student.mean.grad is not None
    slope = 2.0 / (1 + math.exp(-z)) * 2 * (mean - target)
    assert student.mean.grad.item() == pytest.approx(slope, rel=1e-4)
    assert (mean == 0.0) == (loss.item() == pytest.approx(math.log(2), rel=1e-6))


def test_own_pictures_are_drawn_now_and_without_a_graph() -> None:
    batch = toy_batch()
    cfg = PSOConfig()
    grid = (*cfg.student_sigmas, 0.0)
    for sampler in ("euler", "renoise"):
        method = PSO(
            cfg, student=ToyBackbone(seed=1), base=ToyBackbone(seed=1).requires_grad_(False),
            sampler=sampler,
        )  # fmt: skip
        model = lambda x, sigma: method.student(x, sigma, batch.cond)  # noqa: B023, E731
        for _ in range(2):
            draws = Rng(0, 0, "student", batch.ids)
            noise = draws.randn_like(batch.x0)
            with torch.no_grad():
                right = (
                    euler(model, noise, grid)
                    if sampler == "euler"
                    else renoise(model, noise, grid, draws)
                )
            found = method.own(batch, Rng(0, 0, "student", batch.ids))
            assert_close(found, right)
            assert not found.requires_grad
            with torch.no_grad():
                method.student.get_parameter("leave.bias").add_(0.5)


def test_both_pictures_get_one_level_and_one_noise() -> None:
    batch, seen = toy_batch(), []
    method = PSO(
        PSOConfig(), student=ToyBackbone(seed=1), base=ToyBackbone(seed=2).requires_grad_(False),
        sampler="euler",
    )  # fmt: skip
    method.base.register_forward_pre_hook(lambda _m, args: seen.append(args[:2]))
    method.loss(batch, Rng(0, 0, "student", batch.ids))
    draws = Rng(0, 0, "student", batch.ids)
    sigma = choice(draws, method.cfg.student_sigmas, method.cfg.student_probs)
    s, eps = sigma[:, None, None, None], draws.randn_like(batch.x0)
    own = method.own(batch, draws)
    for (x, level), x0 in zip(seen, (batch.x0, own), strict=True):
        assert torch.equal(level, sigma)
        assert_close(x, (1 - s) * x0 + s * eps, rtol=1e-5, atol=1e-5)


def test_it_moves_to_the_target_and_the_base_bounds_how_far() -> None:
    reached = []
    for beta in (2.0, 50.0):
        method, batch = drawn(0.0, 0.0, replace(CFG, beta=beta)), pictures(1.0)
        optim = torch.optim.SGD(method.student.parameters(), lr=0.02 / beta)
        for step in range(200):
            optim.zero_grad()
            method.loss(batch, Rng(0, step, "student", batch.ids))[0].backward()
            optim.step()
        student = method.student
        assert isinstance(student, Affine)
        reached.append(student.mean.item())
    # the larger beta, the sooner the target is preferred enough
    assert 0.02 < reached[1] < 0.5 * reached[0] < 0.6


def test_what_is_exported_is_the_average_with_its_warm_up() -> None:
    """d = (1 + t) / (10 + t): 0.1 of the start is left after the first step."""
    method, batch = drawn(0.0, 0.0, replace(CFG, ema_decay=0.99)), pictures(1.0)
    optim = Optim(OptimConfig(lr=0.1), method.student, total=1)
    run_step(method, [batch], {"student": optim}, {}, seed=0, step=0)
    after = method.student.get_parameter("mean").item()
    assert after != 0
    assert method.exported().get_parameter("mean").item() == pytest.approx(0.9 * after, rel=1e-5)


def test_errors() -> None:
    for change, message in (
        ({"beta": 0.0}, "beta must be > 0, got 0.0"),
        ({"student_probs": (0.5,)}, "student_probs must be >= 0 and sum to 1"),
        ({"ema_decay": 1.0}, "ema_decay must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CFG, **change)
    with pytest.raises(ValueError, match="PSO's base must be frozen"):
        PSO(CFG, student=Affine(0.0, 0.0), base=Affine(0.0, 0.0), sampler="euler")
