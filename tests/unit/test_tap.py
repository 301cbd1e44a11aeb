"""Tapped blocks: their outputs, how far the pass goes, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fewstep.families.tap import tap


class Plus(nn.Module):
    """Adds a number, and remembers how often."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number, self.calls = number, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.number


@pytest.fixture
def blocks() -> nn.ModuleList:
    return nn.ModuleList(Plus(10.0**i) for i in range(4))


def run(blocks: nn.ModuleList) -> Tensor:
    x = torch.zeros(1)
    for block in blocks:
        x = block(x)
    return x


def test_outputs_of_the_tapped_blocks_and_no_call_after_the_deepest(blocks: nn.ModuleList) -> None:
    with tap(blocks, [2, 0, 2]) as seen:
        run(blocks)
    assert {i: x.item() for i, x in seen.items()} == {0: 1.0, 2: 111.0}
    assert [block.calls for block in blocks] == [1, 1, 1, 0]


def test_another_mistake_is_passed_on_and_leaves_no_tap(blocks: nn.ModuleList) -> None:
    with pytest.raises(ZeroDivisionError), tap(blocks, [3]):
        raise ZeroDivisionError
    assert run(blocks).item() == 1111.0
