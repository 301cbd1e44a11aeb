"""Float32 in two halves, and rounding at random: every bit, and the mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewstep.train.halves import joined, rounded_at_random, split

LOWS = 1 << 16
UPPER = [0x0000, 0x0080, 0x3F80, 0x3F81, 0x42F7, 0x7F7E, 0x7F7F, 0x7F80]
"""Upper bits: zero and what is below the normal numbers, the smallest of these, 1 and the next,
an odd and an even one, the largest, infinity."""


def floats(upper: int) -> Tensor:
    """All 2^16 float32 with these upper bits; of infinity itself alone, for the others are NaN."""
    lows = torch.arange(LOWS if upper & 0x7F80 != 0x7F80 else 1, dtype=torch.int64)
    bits = (upper << 16) + lows
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).to(torch.int32).view(torch.float32)


@pytest.mark.parametrize("upper", [*UPPER, *(0x8000 | u for u in UPPER)])
def test_no_bit_is_lost_and_the_upper_half_is_nearest(upper: int) -> None:
    weight = floats(upper)
    high, low = split(weight)
    assert torch.equal(joined(high, low).view(torch.int32), weight.view(torch.int32))
    near = weight.bfloat16().float()  # half to even
    off, least = ((x - weight).abs() for x in (high.float(), near))
    torch.testing.assert_close(off, least, rtol=0, atol=0, equal_nan=True)  # inf - inf


def test_no_bit_is_lost_whatever_the_upper_half() -> None:
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        bits = (torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32) << 16) + low
        weight = bits.view(torch.float32)
        weight = weight[~weight.isnan()]
        assert torch.equal(joined(*split(weight)).view(torch.int32), weight.view(torch.int32))


def test_the_halves_take_no_more_than_the_whole() -> None:
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    high, low = split(weight)
    assert (high.dtype, low.dtype) == (torch.bfloat16, torch.int16)
    assert high.nbytes + low.nbytes == weight.nbytes and high.shape == low.shape == weight.shape
    assert torch.equal(joined(high.t(), low.t()), weight.t())  # whatever its strides are


def test_rounding_at_random_is_right_in_the_mean_and_never_leaves_the_neighbours() -> None:
    weight = torch.linspace(-3, 3, 101).repeat(2000, 1)
    draws = torch.Generator().manual_seed(0)
    rounded = rounded_at_random(weight, draws).float()
    spacing = 2.0 ** (weight.abs().clamp(min=1e-30).log2().floor() - 7)
    assert bool(((rounded - weight).abs() < spacing).all())
    # four standard errors of the mean of 2,000 draws of at most half a spacing each
    assert bool(((rounded - weight).mean(0).abs() <= 4 * 0.5 * spacing[0] / 2000**0.5).all())
    exact = torch.tensor([0.0, 1.0, -2.5, float("inf")])
    assert torch.equal(rounded_at_random(exact, draws).float(), exact)
    again = rounded_at_random(weight, torch.Generator().manual_seed(0)).float()
    assert torch.equal(again, rounded)
