"""SDA: what is compared, and with what gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor
from torch.testing import assert_close

from fewstep.flow.path import interpolate, to_x0
from fewstep.flow.sample import euler, trajectory
from fewstep.methods.losses import huber, low_pass
from fewstep.methods.sda import SDA, SDAConfig
from fewstep.rng import Rng

CFG = SDAConfig(pool=2, ema_decay=0.0)
BATCH = toy_batch()
LEVELS = {sigma: torch.full((4,), sigma) for sigma in CFG.student_sigmas}


class Toy(ToyBackbone):
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "feed_forward": ("blocks.*.0", "blocks.*.2")
    }


def sda(cfg: SDAConfig = CFG, *, student: int = 1, base: int = 1, teacher: int = 0) -> SDA:
    """Of toy backbones with these seeds."""
    return SDA(
        cfg, student=Toy(seed=student), base=Toy(seed=base).requires_grad_(False),
        teacher=Toy(seed=teacher).requires_grad_(False), uncond=toy_batch(1, seed=9).cond,
        sampler="euler",
    )  # fmt: skip


def states(sigma: float, n: int = 2) -> list[Tensor]:
    rng = Rng(0, 0, "noise", BATCH.ids)
    return [interpolate(BATCH.x0, rng.randn_like(BATCH.x0), LEVELS[sigma]) for _ in range(n)]


def compared(method: SDA, sigma: float, n: int = 2) -> dict[str, Tensor]:
    return method.compare(states(sigma, n), LEVELS[sigma], BATCH.cond, differ=True)[1]


def cosines(method: SDA, sigma: float, pairs: list[tuple[int, int]], n: int) -> Tensor:
    """1 - cos of pooled differences, by hand."""
    xs, level = states(sigma, n), LEVELS[sigma]
    ours, goals = (
        [F.avg_pool2d(to_x0(x, model(x, level, BATCH.cond), level), 2).flatten(1) for x in xs]
        for model in (method.student, method.teacher)
    )
    found = [1 - F.cosine_similarity(ours[i] - ours[j], goals[i] - goals[j]) for i, j in pairs]
    return torch.stack(found).mean()


def test_nothing_is_to_be_learnt_where_student_base_and_teacher_are_one() -> None:
    logs = compared(sda(student=0, base=0), 0.75)
    assert logs["alike"].item() == pytest.approx(0, abs=1e-6)
    assert logs["anchor"].item() < 1e-9
    assert logs["size"].item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(("noises", "pairs"), [(2, [(0, 1)]), (3, [(0, 1), (0, 2), (1, 2)])])
def test_loss_by_hand(noises: int, pairs: list[tuple[int, int]]) -> None:
    method = sda(replace(CFG, noises=noises, alike_weight=2.0, anchor_weight=0.5), base=2)
    alike = cosines(method, 0.9, pairs, noises)
    level = LEVELS[0.9]
    anchor = torch.stack([
        F.huber_loss(
            method.student(x, level, BATCH.cond), method.base(x, level, BATCH.cond), delta=0.08
        )
        for x in states(0.9, noises)
    ]).mean()  # fmt: skip
    loss, logs = method.compare(states(0.9, noises), level, BATCH.cond, differ=True)
    assert_close(logs["alike"], alike)
    assert_close(logs["anchor"], anchor)
    assert_close(loss, 2 * alike + 0.5 * anchor)


def test_the_anchor_pulls_with_the_clipped_difference() -> None:
    goal = torch.tensor([0.0, 0.0, 0.0, 0.0])
    v = torch.tensor([0.03, -0.05, 0.5, -2.0], requires_grad=True)
    huber(v, goal, 0.08).backward()
    assert v.grad is not None
    assert_close(v.grad, torch.tensor([0.03, -0.05, 0.08, -0.08]) / 4)


def test_the_cosine_asks_for_direction_and_mse_for_size_too() -> None:
    cosine, square = sda(), sda(replace(CFG, distance="mse"))
    ours, goal = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert_close(cosine.apart(5 * ours, goal), cosine.apart(ours, goal))
    assert_close(cosine.apart(-goal, goal), torch.full((4,), 2.0))
    assert_close(square.apart(ours, goal), ((ours - goal) ** 2).mean((1, 2, 3)))


def test_the_cards_estimate_is_right_for_pure_noise_alone() -> None:
    straight, card = sda(), sda(replace(CFG, estimate="card"))
    assert_close(compared(card, 1.0)["alike"], compared(straight, 1.0)["alike"])
    assert not torch.isclose(compared(card, 0.75)["alike"], compared(straight, 0.75)["alike"])


def test_size_is_the_students_over_the_teachers() -> None:
    method, xs, level = sda(), states(0.9), LEVELS[0.9]
    ours, goals = (
        [low_pass(to_x0(x, model(x, level, BATCH.cond), level), 2).flatten(1) for x in xs]
        for model in (method.student, method.teacher)
    )
    right = ((ours[0] - ours[1]).norm(dim=1) / (goals[0] - goals[1]).norm(dim=1)).mean()
    assert_close(compared(method, 0.9)["size"], right)
    assert abs(right - 1) > 0.01


def test_the_average_of_the_student_is_exported() -> None:
    method = sda(replace(CFG, ema_decay=0.75, ema_warmup=False))
    start = next(method.student.parameters()).detach().clone()
    with torch.no_grad():
        next(method.student.parameters()).add_(1)
    [phase] = method.phases(0)
    assert phase.after is not None
    phase.after()
    assert_close(next(method.exported().parameters()), start + 0.25)


def test_gated_levels_have_the_anchor_alone() -> None:
    method = sda(replace(CFG, gate=2, anchor_weight=0.5, hold_weight=3.0), base=2)
    logs = [method.loss(BATCH, Rng(0, 0, "student", BATCH.ids), level=k)[1] for k in range(4)]
    assert ["alike" in found for found in logs] == [True, True, False, False]
    for found in logs[2:]:
        assert found["anchor"] > 0 and found["loss"] == 3 * found["anchor"]
    for found in logs[:2]:
        assert_close(found["loss"], found["alike"] + 0.5 * found["anchor"])
    assert all(replace(CFG, gate=0).is_open(k) for k in range(4))


def test_levels_take_turns() -> None:
    method = sda(replace(CFG, turns=(0, 0, 1, 2, 3)))
    phases = [phase for step in range(10) for phase in method.phases(step)]
    assert [p.loss.keywords["level"] for p in phases] == [0, 0, 1, 2, 3] * 2  # pyright: ignore
    assert {p.name for p in phases} == {"student"}


def test_own_states_are_those_of_the_students_sampler() -> None:
    method = sda(replace(CFG, states="own"), base=2)
    other = replace(BATCH, x0=torch.zeros_like(BATCH.x0))
    found = method.reach(other, Rng(0, 0, "student", BATCH.ids), 2)
    noise = Rng(0, 0, "student", BATCH.ids).randn_like(BATCH.x0)
    own = lambda x, sigma: method.student(x, sigma, BATCH.cond)  # noqa: E731
    right = list(trajectory(own, noise, (*CFG.student_sigmas, 0.0)))[2][0]
    assert_close(found, right, rtol=0, atol=1e-6)
    assert not found.requires_grad


def test_low_pass() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    assert_close(low_pass(x, 2)[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    assert torch.equal(low_pass(x, 1), x)
    assert_close(low_pass(x, None).flatten(), torch.tensor([7.5, 23.5]))
    with pytest.raises(ValueError, match=r"method.pool = 8 is larger than what it pools, \(4, 4\)"):
        low_pass(x, 8)


def test_a_teacher_of_more_steps_goes_on_along_its_path() -> None:
    method = sda(replace(CFG, teacher_steps=3))
    [x] = states(0.75, 1)
    model = lambda x, sigma: method.teacher(x, sigma, BATCH.cond)  # noqa: E731
    right = euler(model, x, (0.75, 0.5, 0.25, 0.0))
    assert_close(method.teach(x, LEVELS[0.75], BATCH.cond), right)


def test_the_teacher_may_be_guided() -> None:
    method = sda(replace(CFG, guidance=3.0))
    assert method.uncond is not None
    [x], level = states(0.9, 1), LEVELS[0.9]
    none = method.uncond.cat([method.uncond] * 4)
    plain, free = (method.teacher(x, level, cond) for cond in (BATCH.cond, none))
    right = to_x0(x, free + 3 * (plain - free), level)
    assert_close(method.teach(x, level, BATCH.cond), right)


def test_decoded_pictures_are_compared_where_asked() -> None:
    cfg = replace(CFG, domain="decoded", pool=1)
    with pytest.raises(ValueError, match="needs a decoder"):
        sda(cfg)
    method = SDA(
        cfg, student=Toy(seed=1), base=Toy(seed=1).requires_grad_(False),
        teacher=Toy().requires_grad_(False), decode=lambda x0: x0.square(), sampler="euler",
    )  # fmt: skip
    xs, level = states(0.75), LEVELS[0.75]
    ours, goals = (
        [to_x0(x, model(x, level, BATCH.cond), level).square().flatten(1) for x in xs]
        for model in (method.student, method.teacher)
    )
    right = 1 - F.cosine_similarity(ours[0] - ours[1], goals[0] - goals[1]).mean()
    assert_close(method.compare(xs, level, BATCH.cond, differ=True)[1]["alike"], right)


def test_noises_differ_and_the_picture_is_one() -> None:
    method, seen = sda(), list[tuple[Tensor, Tensor]]()
    method.teacher.register_forward_pre_hook(lambda _m, args: seen.append(args[:2]))
    method.loss(BATCH, Rng(0, 0, "student", BATCH.ids), level=1)
    draws = Rng(0, 0, "student", BATCH.ids)
    assert len(seen) == 2
    for x, sigma in seen:
        assert torch.equal(sigma, LEVELS[0.9])
        assert_close(x, 0.1 * BATCH.x0 + 0.9 * draws.randn_like(BATCH.x0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noises": 1}, "noises must be >= 2, got 1"),
        ({"teacher_steps": 0}, "teacher_steps must be >= 1"),
        ({"pool": 0}, "pool must be >= 1, or none"),
        ({"gate": 4}, "gate must leave one of the 4 student_sigmas open"),
        ({"guidance": 0.0}, "guidance must be >= 1"),
        ({"anchor_delta": 0.0}, "anchor_delta must be > 0"),
        ({"guidance": float("inf")}, "guidance must be >= 1 and finite, got inf"),
        ({"alike_weight": -1.0}, "alike_weight must be >= 0"),
        ({"hold_weight": float("inf")}, "hold_weight must be >= 0 and finite, got inf"),
        ({"turns": (0, 1)}, "turns must name each of the 4 student_sigmas"),
        ({"ema_decay": 1.0}, "ema_decay must lie in"),
    ],
)
def test_config_errors(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CFG, **change)  # pyright: ignore[reportArgumentType]


@pytest.mark.fault(14)
def test_base_and_teacher_must_be_frozen() -> None:
    with pytest.raises(ValueError, match="SDA's teacher must be frozen"):
        SDA(CFG, student=Toy(), base=Toy().requires_grad_(False), teacher=Toy(), sampler="euler")
