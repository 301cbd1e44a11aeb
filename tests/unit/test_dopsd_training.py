"""D-OPSD in training: the teacher's average, what the student comes to, and micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tests.gaussians import known
from tests.unit.test_dopsd import BATCH, CFG, Shifted, by_parts, dopsd
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.methods.distil import TeacherConfig
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import run_step


def steps(method: DOPSD, batches: Sequence[Batch], n: int, lr: float = 1e-3) -> None:
    optim = Optim(OptimConfig(lr=lr, clip=None), method.student, total=n)
    for step in range(n):
        assert run_step(method, batches, {"student": optim}, {}, seed=0, step=step) is None


def test_the_average_moves_on_optimizer_steps_alone_and_the_student_is_exported() -> None:
    method = dopsd(replace(CFG, teacher=TeacherConfig(decay=0.5, follow=0.0)))
    bias = method.student.get_parameter("leave.bias")
    start, shadow = bias.detach().clone(), method.teacher.module.get_parameter("leave.bias")
    by_parts(method)
    assert torch.equal(shadow, start)
    steps(method, [BATCH], 1)
    assert not torch.equal(bias, start)
    assert_close(shadow, (start + bias.detach()) / 2)
    bad = replace(BATCH, x0=BATCH.x0 * torch.nan, context=Cond(tuple(
        t * torch.nan for t in BATCH.context.tokens  # pyright: ignore
    )))  # fmt: skip
    optim = Optim(OptimConfig(), method.student, total=1)
    before = shadow.clone()
    assert run_step(method, [bad], {"student": optim}, {}, seed=0, step=1) is not None
    assert torch.equal(shadow, before)
    assert method.exported() is method.student
    assert set(method.modules) == {"student", "ema"}
    assert set(dopsd(replace(CFG, teacher=TeacherConfig(decay=None))).modules) == {"student"}


def test_training_brings_the_student_to_what_its_teacher_is_told() -> None:
    """The frozen teacher's pictures are 0.7 brighter in their context; the student learns it."""
    cfg = DOPSDConfig(student_sigmas=(1.0, 0.5), teacher=TeacherConfig(decay=None))
    base = Shifted(0.0, 0.0).requires_grad_(False)
    method = DOPSD(cfg, student=Shifted(0.0, 0.0), base=base, sampler="euler")
    cond = known(4)
    batch = Batch(
        ids=tuple("abcd"), x0=torch.zeros(4, 1, 2, 2), cond=cond,
        context=Cond(tuple(t + 0.7 for t in cond.tokens)),
    )  # fmt: skip
    steps(method, [batch], 150, lr=0.02)
    student = method.student
    assert isinstance(student, Shifted)
    assert student.mean.item() == pytest.approx(0.7, abs=0.05)


def test_micro_batches_make_the_gradient_of_the_whole() -> None:
    halves = [
        Batch(
            ids=BATCH.ids[i : i + 2], x0=BATCH.x0[i : i + 2], cond=BATCH.cond[i : i + 2],
            context=BATCH.context[i : i + 2],  # pyright: ignore
        )
        for i in (0, 2)
    ]  # fmt: skip
    found = []
    for batches in ([BATCH], halves):
        method = dopsd()
        sgd = Optim(OptimConfig(lr=1.0, betas=(0.0, 0.0), clip=None), method.student, total=1)
        norms: dict[str, object] = {}
        run_step(method, batches, {"student": sgd}, norms, seed=0, step=0)  # type: ignore
        found.append(norms["student"].values())  # type: ignore
    assert found[0]["grad_norm"] == pytest.approx(found[1]["grad_norm"], rel=1e-5)
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["distil_by_state"] == pytest.approx(found[1]["distil_by_state"], rel=1e-4)
