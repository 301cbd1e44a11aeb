"""Blocks of 256 numbers in eight bits: what is kept, how nearly, and in how many bytes."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.train.eight_bits import BLOCK, from_eight_bits, to_eight_bits, values


@pytest.mark.parametrize("signed", [True, False])
def test_the_values_are_256_from_the_smallest_to_one(signed: bool) -> None:
    known = values(signed=signed)
    assert len(known) == 256 and torch.equal(known, known.unique())
    assert known[-1] == 1 and known.min() == (known[0] if signed else 0)
    # seven decades: the lowest is one or two numbers from 1e-7 to 1e-6
    positive = known[known > 0]
    assert 1e-7 < positive[0] < 1e-6
    if signed:
        assert torch.equal(-known[known < 0].flip(0), positive[:-1])


@pytest.mark.parametrize("signed", [True, False])
def test_what_is_a_value_times_the_scale_is_kept(signed: bool) -> None:
    known = values(signed=signed)
    x = torch.cat([known * 3, known / 1024])  # the largest of each block is positive
    codes, scales = to_eight_bits(x, signed=signed)
    assert torch.equal(scales, torch.tensor([3.0, 1 / 1024]))
    assert torch.equal(codes.long(), torch.arange(256).repeat(2))
    torch.testing.assert_close(from_eight_bits(codes, scales, signed=signed), x)


@pytest.mark.parametrize("shape", [(1,), (255,), (256,), (257,), (33, 17), (0,)])
def test_any_shape_comes_back_within_half_a_gap(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    codes, scales = to_eight_bits(x, signed=True)
    assert codes.shape == x.shape and len(scales) == math.ceil(x.numel() / BLOCK)
    back = from_eight_bits(codes, scales, signed=True)
    gaps = values(signed=True).diff()
    per_number = scales.repeat_interleave(BLOCK)[: x.numel()].view(shape)
    assert bool(((back - x).abs() <= per_number * (gaps.max() / 2 + 1e-6)).all())


def test_zeros_stay_zeros_and_one_block_does_not_see_the_next() -> None:
    x = torch.cat([torch.zeros(BLOCK), torch.full((BLOCK,), 1e-12), torch.full((BLOCK,), 1e12)])
    back = from_eight_bits(*to_eight_bits(x, signed=False), signed=False)
    torch.testing.assert_close(back, x)
