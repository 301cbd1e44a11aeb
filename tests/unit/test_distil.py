"""Self-distillation's parts: weights, which states, who leads, and the teacher."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor
from torch.testing import assert_close

from fewstep.flow.guidance import guided
from fewstep.flow.sample import trajectory
from fewstep.methods.distil import (
    SelfTeacher,
    TeacherConfig,
    check_visits,
    some_of,
    velocity_weight,
    visited,
    weighed,
)
from fewstep.nets.ema import Ema
from fewstep.rng import Rng

GRID = (1.0, 0.9, 0.75, 0.5, 0.0)
BATCH = toy_batch()
CONTEXT = toy_batch(seed=3).cond


def test_forms_are_distances_of_velocities_pictures_and_next_states() -> None:
    x, v, goal = torch.randn(3, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    here, there = 0.75, 0.5
    square = lambda a, b: (a - b).square().mean()  # noqa: E731
    by_form = {
        "v": square(v, goal),
        "x0": square(x - here * v, x - here * goal),
        "mu": square(x + (there - here) * v, x + (there - here) * goal),
    }
    for form, distance in by_form.items():
        weight = velocity_weight(form, here, there)  # pyright: ignore[reportArgumentType]
        assert_close(weight * square(v, goal), distance)


def test_a_subset_is_fair_and_one_for_all_samples_of_a_step() -> None:
    counts: Counter[int] = Counter()
    for step in range(2000):
        found = some_of(4, 2, Rng(0, step, "student", ["a"]))
        assert found == some_of(4, 2, Rng(0, step, "student", ["b", "c"]))
        assert len(set(found)) == 2 and found == sorted(found)
        counts.update(found)
    # each has the probability 1/2: a standard deviation of 22
    assert all(abs(counts[k] - 1000) < 90 for k in range(4)), counts
    assert some_of(4, None, Rng(0, 0, "student", ["a"])) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"visits must lie in 1 \.\. 4, .* got 5"):
        check_visits(5, 4)


@pytest.mark.parametrize("leads", ["student", "teacher"])
def test_the_leader_decides_the_states_and_nobody_is_asked_in_vain(leads: str) -> None:
    models = {"student": ToyBackbone(seed=1), "teacher": ToyBackbone(seed=2)}
    student, teacher = (guided(m, BATCH.cond, None, 1) for m in models.values())
    noise = Rng(0, 0, "noise", BATCH.ids).randn_like(BATCH.x0)
    found = list(
        visited(
            student, teacher, noise, GRID, Rng(0, 0, "x", BATCH.ids), chosen=[0, 2],
            sampler="euler", leads=leads,  # pyright: ignore[reportArgumentType]
        )
    )  # fmt: skip
    assert models[leads].forwards == 3  # states 0, 1 and 2, and no more
    other = "teacher" if leads == "student" else "student"
    assert models[other].forwards == 2
    states = list(trajectory(guided(models[leads], BATCH.cond, None, 1), noise, GRID))
    assert [k for k, _, _ in found] == [0, 2]
    for k, v, goal in found:
        x, sigma = states[k]
        assert_close(v, models["student"](x, sigma, BATCH.cond))
        assert_close(goal, models["teacher"](x, sigma, BATCH.cond))
        assert v.requires_grad and not goal.requires_grad


def test_weighed_parts_add_up_to_the_mean() -> None:
    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 2, 1, 2, 2, generator=draws)
    pairs = [(1, noise[0], noise[1]), (3, noise[2], noise[3])]
    square = torch.nn.functional.mse_loss
    parts = list(weighed(iter(pairs), GRID, 2, "x0", square, "distil"))
    each = [
        sigma**2 * square(v, goal) for (_, v, goal), sigma in zip(pairs, (0.9, 0.5), strict=True)
    ]
    assert_close(sum(loss for loss, _ in parts), torch.stack(each).mean())
    by_state = torch.stack([logs["distil_by_state"] for _, logs in parts]).sum(0)
    assert_close(by_state, torch.stack([torch.zeros(()), each[0], torch.zeros(()), each[1]]) / 2)


def teacher(cfg: TeacherConfig, student: ToyBackbone, uncond: bool = False) -> SelfTeacher:
    base = ToyBackbone(seed=0).requires_grad_(False)
    none = toy_batch(1, seed=9).cond if uncond else None
    return SelfTeacher(cfg, student=student, base=base, uncond=none)


def asked(found: SelfTeacher) -> Tensor:
    batch = replace(BATCH, context=CONTEXT)
    return found.velocity(batch)(BATCH.x0, torch.full((4,), 0.9))


@torch.no_grad()
def test_a_frozen_teacher_is_the_model_before_training_and_an_average_follows() -> None:
    student, level = ToyBackbone(seed=1), torch.full((4,), 0.9)
    frozen = teacher(TeacherConfig(decay=None), student)
    live = teacher(TeacherConfig(decay=0.0), student)
    slow = teacher(TeacherConfig(), student)
    for p in student.parameters():
        p.add_(0.1)
    before = asked(slow)
    for one in (frozen, live, slow):
        one.update()
    base = ToyBackbone(seed=0)
    assert_close(asked(frozen), base(BATCH.x0, level, CONTEXT))
    assert_close(asked(live), student(BATCH.x0, level, CONTEXT))
    assert frozen.modules == {} and set(slow.modules) == {"ema"}
    ema = slow.modules["ema"]
    assert isinstance(ema, Ema)
    shadow = ema.average.get_parameter("leave.bias")
    start = ToyBackbone(seed=1).leave.bias
    assert_close(shadow, start + 0.1 * 0.1)  # a tenth of the first step
    assert not torch.allclose(asked(slow), before)


@pytest.mark.parametrize("follow", [0.0, 0.4])
@torch.no_grad()
def test_the_average_follows_as_its_config_says(follow: float) -> None:
    student = ToyBackbone(seed=1)
    found = teacher(TeacherConfig(decay=0.9, follow=follow), student)
    start = student.leave.bias.clone()
    student.leave.bias.add_(1.0)
    found.update()
    moved = found.module.get_parameter("leave.bias") - start
    assert_close(moved, torch.full_like(moved, follow or 0.1))  # 1 - decay where it follows nothing


@torch.no_grad()
def test_the_teacher_may_be_guided() -> None:
    student, level = ToyBackbone(seed=1), torch.full((4,), 0.9)
    found = asked(teacher(TeacherConfig(guidance=3.0), student, uncond=True))
    none = toy_batch(1, seed=9).cond.tokens[0]
    free = student(BATCH.x0, level, type(CONTEXT)((none,) * 4))
    assert_close(found, free + 3 * (student(BATCH.x0, level, CONTEXT) - free))


def test_refusals() -> None:
    student = ToyBackbone(seed=1)
    with pytest.raises(ValueError, match="what its teacher sees of each sample"):
        teacher(TeacherConfig(), student).velocity(BATCH)
    with pytest.raises(ValueError, match=r"must be frozen: call base\.requires_grad_"):
        SelfTeacher(TeacherConfig(), student=student, base=ToyBackbone(), uncond=None)
    for change, message in (
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), or be none for a frozen teacher, got 1.0"),
        ({"follow": 1.0}, "follow must lie in"),
        ({"guidance": 0.5}, "guidance must be >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            TeacherConfig(**change)
