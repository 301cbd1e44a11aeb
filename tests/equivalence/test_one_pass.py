"""The shared fakes of LADD change the cost of a step and nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from benchmarks.naive_ladd import NaiveLADD
from benchmarks.one_pass import Runner, largest_difference, pair, random_batch
from torch import Tensor, nn

from fewstep.methods.ladd import LADD


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach() for p in module.parameters()]


def test_gradients_and_weights_equal_those_of_separate_passes_bit_for_bit() -> None:
    one, naive = pair(student_every=2)
    start = copy.deepcopy(weights(one.ladd.student))
    for step in range(4):
        batch = random_batch(step, b=3, size=8, channels=4)
        one.step(step, batch)
        naive.step(step, batch)
        assert one.grads.keys() == naive.grads.keys()
        for name, grads in one.grads.items():
            assert any(g.abs().max() > 0 for g in grads)
            assert largest_difference(grads, naive.grads[name]) == 0
    for role in ("student", "heads", "ema"):
        a, b = one.ladd.modules[role], naive.ladd.modules[role]
        assert largest_difference(weights(a), weights(b)) == 0
    assert largest_difference(weights(one.ladd.student), start) > 0


def test_forwards_of_a_student_step() -> None:
    one, naive = pair()
    batch = random_batch(0, b=2, size=8, channels=4)
    one.step(0, batch)
    naive.step(0, batch)
    assert one.forwards == {"student": 1, "teacher": 2}  # teacher: once fake, once real
    assert naive.forwards == {"student": 2, "teacher": 3}


def test_also_with_independent_renoise_and_softplus() -> None:
    one, _ = pair()
    cfg = replace(one.ladd.cfg, renoise="independent", loss="softplus")

    def again() -> LADD:
        roles = copy.deepcopy((one.ladd.student, one.ladd.teacher, one.ladd.heads))
        return LADD(cfg, student=roles[0], teacher=roles[1], heads=roles[2])

    a, b = again(), again()
    shared, naive = Runner(a, a), Runner(NaiveLADD(b, seed=0), b)
    batch = random_batch(0, b=2, size=8, channels=4)
    shared.step(0, batch)
    naive.step(0, batch)
    for name, grads in shared.grads.items():
        assert largest_difference(grads, naive.grads[name]) == 0


def test_the_comparison_can_fail() -> None:
    one, naive = pair()
    batch = random_batch(0, b=2, size=8, channels=4)
    with torch.no_grad():
        next(naive.ladd.heads.parameters()).add_(1e-4)
    one.step(0, batch)
    naive.step(0, batch)
    assert largest_difference(one.grads["student"], naive.grads["student"]) > 0


def test_the_naive_step_refuses_what_it_does_not_know() -> None:
    one, _ = pair()
    one.ladd.cfg = replace(one.ladd.cfg, r1="exact")
    with pytest.raises(ValueError, match="knows no R1"):
        NaiveLADD(one.ladd, seed=0)
