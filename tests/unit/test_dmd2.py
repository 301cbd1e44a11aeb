"""DMD2: its states are the sampler's, its gradient the closed form, and it finds a Gaussian."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tests.gaussians import NO_PROMPT, Affine, Gaussian, known
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.flow.guidance import cfg as guide
from fewstep.flow.path import interpolate, to_x0
from fewstep.flow.sample import at, trajectory
from fewstep.flow.sigmas import uniform_shifted
from fewstep.methods.dmd2 import DMD2, DMD2Config, distribution_matching
from fewstep.rng import Rng

CFG = DMD2Config(student_every=1, ema_decay=0.0)


def toy(cfg: DMD2Config = CFG, sampler: str = "euler") -> DMD2:
    return DMD2(
        cfg, student=ToyBackbone(seed=1), critic=ToyBackbone(seed=2),
        teacher=ToyBackbone(seed=0).requires_grad_(False), uncond=toy_batch(1, seed=9).cond,
        sampler=sampler,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def rng(batch: Batch, phase: str = "student", step: int = 0) -> Rng:
    return Rng(0, step, phase, batch.ids)


def test_levels_take_turns_and_the_student_follows_the_critic() -> None:
    method = toy(replace(CFG, student_every=3))
    steps = [list(method.phases(step)) for step in range(12)]
    assert [[p.name for p in phases] for phases in steps] == [
        ["critic"], ["critic"], ["critic", "student"],
    ] * 4  # fmt: skip
    assert [p[0].loss.keywords["level"] for p in steps] == [0, 1, 2, 3] * 3  # pyright: ignore
    assert [p[1].loss.keywords["level"] for p in steps if len(p) > 1] == [0, 1, 2, 3]  # pyright: ignore
    method = toy(replace(CFG, student_every=2, turns=(0, 0, 1, 2, 3)))
    steps = [list(method.phases(step)) for step in range(10)]
    assert [p[0].loss.keywords["level"] for p in steps] == [0, 0, 1, 2, 3] * 2  # pyright: ignore
    assert [p[1].loss.keywords["level"] for p in steps if len(p) > 1] == [0, 0, 1, 2, 3]  # pyright: ignore


def test_states_are_those_of_the_euler_sampler() -> None:
    method, batch = toy(), toy_batch()
    noise = rng(batch).randn_like(batch.x0)
    velocity = lambda x, sigma: method.student(x, sigma, batch.cond)  # noqa: E731
    states = list(trajectory(velocity, noise, (*CFG.student_sigmas, 0.0)))
    for level, (x, sigma) in enumerate(states[:-1]):
        found = method.simulate(batch, rng(batch), level)
        assert_close(found[0], x, rtol=0, atol=1e-6)
        assert torch.equal(found[1], sigma)


def test_states_are_those_of_the_renoising_sampler() -> None:
    method, batch = toy(sampler="renoise"), toy_batch()
    draws = rng(batch)
    x = draws.randn_like(batch.x0)
    for here, there in pairwise(CFG.student_sigmas):
        x0_hat = to_x0(x, method.student(x, at(here, x), batch.cond), at(here, x))
        x = interpolate(x0_hat, draws.randn_like(x), at(there, x))
    assert_close(method.simulate(batch, rng(batch), 3)[0], x, rtol=0, atol=0)


def test_picture_levels_begin_at_noised_pictures() -> None:
    method, batch = toy(replace(CFG, picture_levels=2)), toy_batch()
    own = toy()
    for level in (0, 1):
        assert torch.equal(
            method.simulate(batch, rng(batch), level)[0], own.simulate(batch, rng(batch), level)[0]
        )
    for level in (2, 3):
        x, sigma = method.simulate(batch, rng(batch), level)
        eps = rng(batch).randn_like(batch.x0)
        here = CFG.student_sigmas[level]
        assert torch.equal(sigma, at(here, eps))
        assert_close(x, (1 - here) * batch.x0 + here * eps, rtol=0, atol=1e-6)


def test_trap16_states_know_no_real_picture_and_carry_no_graph() -> None:
    method, batch = toy(sampler="renoise"), toy_batch()
    other = replace(batch, x0=torch.zeros_like(batch.x0))
    assert torch.equal(
        method.simulate(batch, rng(batch), 3)[0], method.simulate(other, rng(batch), 3)[0]
    )
    graphs: list[bool] = []
    method.student.register_forward_hook(lambda _m, _i, v: graphs.append(v.requires_grad))
    method.student_loss(batch, rng(batch), level=3)
    assert graphs == [False, False, False, True]


def test_trap17_gradient_is_finite_where_student_and_teacher_agree() -> None:
    x0_hat = torch.ones(2, 1, 2, 2, requires_grad=True)
    distribution_matching(x0_hat, x0_hat.detach(), x0_hat.detach()).backward()
    assert x0_hat.grad is not None and (x0_hat.grad == 0).all()


def test_trap17_gradient_is_the_normalised_difference_of_the_estimates() -> None:
    x0_hat, real, fake = torch.randn(3, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    x0_hat.requires_grad_()
    distribution_matching(x0_hat, real, fake).backward()
    apart = (x0_hat.detach() - real).abs().mean((1, 2, 3), keepdim=True)
    assert x0_hat.grad is not None
    assert_close(x0_hat.grad, (fake - real) / apart / x0_hat.numel())


def test_nothing_is_to_be_learnt_where_the_critic_is_the_teacher() -> None:
    batch = toy_batch()
    for w, still in ((1.0, True), (4.0, False)):
        method = toy(replace(CFG, guidance=w))
        method.critic.load_state_dict(method.teacher.state_dict())
        loss, logs = method.student_loss(batch, rng(batch), level=2)
        assert (loss.item() < 1e-9) is still and (logs["apart"].item() < 1e-6) is still


def test_student_loss_by_hand() -> None:
    method, batch = toy(replace(CFG, renoise_shift=3.0)), toy_batch()
    draws = rng(batch)
    x, sigma = method.simulate(batch, draws, 1)
    x0_hat = to_x0(x, method.student(x, sigma, batch.cond), sigma)
    level, eps = uniform_shifted(draws, 3.0), draws.randn_like(x0_hat)
    y = interpolate(x0_hat, eps, level)
    none = Cond.cat([method.uncond] * 4)
    v = guide(method.teacher(y, level, batch.cond), method.teacher(y, level, none), CFG.guidance)
    step = method.critic(
        y, level, batch.cond
    )  # x0 by it minus x0 by the teacher is sigma (v - this)
    apart = level[:, None, None, None] * (v - step)
    size = (x0_hat - to_x0(y, v, level)).abs().mean((1, 2, 3), keepdim=True)
    loss, _ = method.student_loss(batch, rng(batch), level=1)
    assert_close(loss, (apart / size).square().mean() / 2)


def test_critic_loss_by_hand() -> None:
    method, batch = toy(), toy_batch()
    draws = rng(batch, "critic")
    x, sigma = method.simulate(batch, draws, 2)
    x0_hat = to_x0(x, method.student(x, sigma, batch.cond), sigma)
    level, eps = uniform_shifted(draws), draws.randn_like(x0_hat)
    v = method.critic(interpolate(x0_hat, eps, level), level, batch.cond)
    loss, _ = method.critic_loss(batch, rng(batch, "critic"), level=2)
    assert_close(loss, (v - (eps - x0_hat)).square().mean())


def gradients(loss: Tensor, method: DMD2) -> dict[str, bool]:
    loss.backward()
    return {
        name: any(p.grad is not None for p in module.parameters())
        for name, module in
        (("student", method.student), ("critic", method.critic), ("teacher", method.teacher))
    }  # fmt: skip


def test_each_phase_reaches_its_own_module_alone() -> None:
    batch = toy_batch()
    method = toy()
    loss, _ = method.critic_loss(batch, rng(batch, "critic"), level=2)
    assert gradients(loss, method) == {"student": False, "critic": True, "teacher": False}
    method = toy()
    loss, _ = method.student_loss(batch, rng(batch), level=2)
    assert gradients(loss, method) == {"student": True, "critic": False, "teacher": False}


def trained(w: float) -> Affine:
    """A one-step student of N(2, 0.5^2) beside an unconditional N(0, 1)."""
    student, teacher = Affine(0.0, 1.0), Gaussian(2.0, 0.5).requires_grad_(False)
    cfg = DMD2Config(student_sigmas=(1.0,), turns=(0,), guidance=w, student_every=4, ema_decay=0.0)
    method = DMD2(
        cfg, student=student, teacher=teacher, critic=Gaussian(0.0, 1.0), uncond=NO_PROMPT,
        sampler="euler",
    )  # fmt: skip
    optims = {
        "critic": torch.optim.Adam(method.critic.parameters(), lr=0.05),
        "student": torch.optim.Adam(student.parameters(), lr=0.02),
    }
    ids = tuple(str(i) for i in range(16))
    batch = Batch(ids=ids, x0=torch.zeros(16, 1, 4, 4), cond=known(16))
    for step in range(1600):
        for phase in method.phases(step):
            optims[phase.name].zero_grad()
            phase.loss(batch, Rng(0, step, phase.name, ids))[0].backward()
            optims[phase.name].step()
    return student


def test_a_student_finds_its_teachers_distribution_and_guidance_narrows_it() -> None:
    plain, guided = trained(1.0), trained(3.0)
    assert plain.mean.item() == pytest.approx(2.0, abs=0.1)
    assert abs(plain.std.item()) == pytest.approx(0.5, abs=0.1)
    assert guided.mean.item() > 2.3
    assert abs(guided.std.item()) < 0.75 * abs(plain.std.item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"picture_levels": 4}, "picture_levels must leave one of the 4"),
        ({"guidance": 0.5}, "guidance must be >= 1, got 0.5"),
        ({"student_every": 0}, "student_every must be >= 1"),
        ({"renoise_shift": 0.0}, "renoise_shift must be > 0"),
        ({"ema_decay": 1.0}, "ema_decay must lie in"),
        ({"student_sigmas": (0.5, 0.9)}, "sigmas must fall strictly"),
        ({"turns": (0, 1, 2)}, "turns must name each of the 4 student_sigmas"),
        ({"turns": (0, 1, 2, 3, 4)}, "turns must name each of the 4 student_sigmas"),
    ],
)
def test_config_errors(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CFG, **change)  # pyright: ignore[reportArgumentType]


@pytest.mark.fault(14)
def test_the_teacher_must_be_frozen() -> None:
    with pytest.raises(ValueError, match="must be frozen"):
        DMD2(
            CFG, student=ToyBackbone(), critic=ToyBackbone(), teacher=ToyBackbone(),
            uncond=NO_PROMPT, sampler="euler",
        )  # fmt: skip
