"""Distances of weights, by closed forms."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from fewstep.nets.adapters import Adapted
from fewstep.nets.lokr import LoRA
from fewstep.nets.moved import distances


def linear(value: float) -> nn.Sequential:
    layer = nn.Linear(3, 2, bias=False)
    nn.init.constant_(layer.weight, value)
    return nn.Sequential(layer)


def test_whole_weights() -> None:
    found = distances(linear(1.5), linear(1.2), linear(1.0))
    assert found == pytest.approx((0.5, 0.3 / 0.5))
    moved, behind = distances(linear(1.0), linear(1.0), linear(1.0))
    assert moved == 0 and math.isnan(behind)


def test_what_is_frozen_does_not_count() -> None:
    student, average, start = (
        nn.Sequential(linear(a), linear(b)) for a, b in ((2.0, 9.0), (2.0, 9.0), (1.0, 9.0))
    )
    student[1].requires_grad_(False)
    assert distances(student, average, start) == pytest.approx((1.0, 0.0))


def adapted(out: float) -> nn.Sequential:
    """Weights of 1 under a LoRA of rank 1 that adds `out` to each."""
    tree = linear(1.0)
    adapter = LoRA(2, 3, rank=1, generator=torch.Generator())
    with torch.no_grad():
        adapter.lora_A.fill_(1.0)
        adapter.lora_B.fill_(out)
    base = tree[0]
    assert isinstance(base, nn.Linear)
    return nn.Sequential(Adapted(base.requires_grad_(False), adapter, name="0", level=0))


def test_adapters_move_the_layers_they_are_on() -> None:
    start = linear(1.0)
    assert distances(adapted(0.25), adapted(0.2), start) == pytest.approx((0.25, 0.2))


def test_of_stacked_adapters_the_last_one_has_moved() -> None:
    def stacked(out: float) -> nn.Module:
        under = adapted(1.0)[0]
        assert isinstance(under, Adapted)
        top = copy.deepcopy(adapted(out)[0])
        assert isinstance(top, Adapted)
        return nn.Sequential(Adapted(under, top.adapter, name="0", level=1))

    # weights of 2 under the last one
    assert distances(stacked(0.5), stacked(0.5), linear(1.0)) == pytest.approx((0.25, 0.0))


def test_another_structure_is_refused() -> None:
    student = nn.Sequential(linear(1.0), linear(1.0))
    with pytest.raises(ValueError, match=r"'1\.0\.weight' of the student is not in the model"):
        distances(student, student, nn.Sequential(linear(1.0)))
