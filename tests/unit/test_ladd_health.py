"""LADD: its health numbers, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.ladd_steps import BASE, ladd, run_step
from tests.toy import ToyBackbone, toy_batch
from torch.testing import assert_close

from fewstep.methods.health import health
from fewstep.methods.ladd import LADD


def test_health_by_level_survives_averaging() -> None:
    method = ladd()
    _, logs = run_step(method, [toy_batch(16)])
    found = logs["heads"]
    for name in ("real", "fake"):
        assert_close(found[f"{name}_share_by_sigma"].sum(), torch.tensor(1.0))
        assert_close(found[f"{name}_correct_by_sigma"].sum(), found[f"{name}_accuracy"])
        assert_close(found[f"{name}_logit_by_sigma"].sum(), found[f"{name}_logit"])
        assert_close(found[f"{name}_accuracy_by_head"].mean(), found[f"{name}_accuracy"])
    assert_close(found["gap_by_head"].mean(), found["gap"])
    assert all(v.isfinite().all() and not v.requires_grad for v in found.values())


def test_health_of_known_logits() -> None:
    net = ladd().heads  # two heads, here of two patches each
    real = torch.tensor([[3.0, 1.0, -1.0, 1.0], [1.0, 1.0, -2.0, -4.0]])
    fake = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-1.0, -3.0, -2.0, -2.0]])
    found = health(net, real, torch.tensor([0.1, 1.0]), fake, torch.tensor([0.6, 0.7]))
    expected = {
        "real_accuracy": 5 / 8,
        "fake_accuracy": 6 / 8,
        "real_accuracy_by_head": [1, 1 / 4],
        "fake_accuracy_by_head": [1, 1 / 2],
        "gap": 0 - (-1),
        "gap_by_head": [1.5 + 1.5, -1.5 + 0.5],
        "real_share_by_sigma": [1 / 2, 0, 0, 1 / 2],
        "fake_share_by_sigma": [0, 0, 1, 0],
        "real_correct_by_sigma": [3 / 4 / 2, 0, 0, 2 / 4 / 2],
        "real_logit_by_sigma": [1 / 2, 0, 0, -1 / 2],
    }
    for name, value in expected.items():
        assert_close(found[name], torch.tensor(value, dtype=torch.float32), msg=name)


@pytest.mark.fault(15)
def test_batch_of_one_is_refused_where_it_teaches_nothing() -> None:
    one = toy_batch(1)
    with pytest.raises(ValueError, match=r"micro-batch of 1.*at least 2, or loss='softplus'"):
        run_step(ladd(), [one])
    softplus = replace(BASE, loss="softplus")
    run_step(ladd(softplus), [one])
    with pytest.raises(ValueError, match=r"misaligned_weight > 0 got a micro-batch of 1"):
        run_step(ladd(replace(softplus, misaligned_weight=0.1)), [one])


@pytest.mark.fault(14)
def test_construction_refuses_what_cannot_work() -> None:
    good = ladd()
    with pytest.raises(ValueError, match="teacher must be frozen"):
        LADD(BASE, student=good.student, teacher=ToyBackbone(), heads=good.heads)
    with pytest.raises(ValueError, match=r"must lie in 0 .. 2 for this teacher, got \[3\]"):
        ladd(replace(BASE, layers=(0, 3)))
    with pytest.raises(ValueError, match="names 3 blocks, but there are 2 heads"):
        LADD(
            replace(BASE, layers=(0, 1, 2)),
            student=good.student, teacher=good.teacher, heads=good.heads,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": (1, 1)}, "layers must name distinct"),
        ({"student_sigmas": (1.0, 0.5)}, "student_probs needs one value for each of the 2"),
        ({"student_sigmas": (1.0, 0.9, 0.5, 0.0)}, r"student_sigmas must lie in \(0, 1\]"),
        ({"student_probs": (0.7, 0.1, 0.1, 0.2)}, "student_probs must be >= 0 and sum to 1"),
        ({"warmup_probs": (1.5, -0.5, 0.0, 0.0)}, "warmup_probs must be >= 0 and sum to 1"),
        ({"student_every": 0}, "student_every must be >= 1, got 0"),
        ({"heads_first": -1}, "heads_first must be >= 0, got -1"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0, got -1"),
        ({"renoise_std": 0.0}, "renoise_std must be > 0, got 0.0"),
        ({"r1_weight": -1.0}, "r1_weight must be > 0, got -1.0"),
        ({"misaligned_weight": float("nan")}, "misaligned_weight must be >= 0, got nan"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), got 1.0"),
    ],
)
def test_config_errors_name_key_and_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BASE, **change)
