"""Float32 weights in two halves: a bfloat16 that models compute with, and 16 bits for the rest.

    bits(weight) = 2^16 bits(high) + low          -2^15 <= low < 2^15

`high` is the bfloat16 next to the weight. Of two that are equally near it is the one away from
zero: with the even one, as processors round, `low` would have to reach 2^15, which 16 bits do not
hold. Both halves together are four bytes, as many as the weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 16
"""Of either half."""


def split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(high, low) of float32 weights: bfloat16 and int16. `joined` gives back every bit of numbers
    and infinities; numbers above 3.39e38 are infinite in `high`."""
    bits = weight.view(torch.int32)
    low = bits.to(torch.int16)  # the lower bits, whatever the upper ones
    high = ((bits - low) >> BITS).to(torch.int16)
    return high.view(torch.bfloat16), low


def joined(high: Tensor, low: Tensor) -> Tensor:
    """The float32 weights of which `split` made these."""
    bits = (high.contiguous().view(torch.int16).to(torch.int32) << BITS) + low
    return bits.view(torch.float32)


def rounded_at_random(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Float32 weights as one of the two bfloat16 around each, the nearer one more often, so that
    the mean is the weight: steps too small for a bfloat16 are made now and then instead of never.
    """
    draws = torch.empty_like(weight, dtype=torch.int32).random_(0, 1 << BITS, generator=generator)
    bits = (weight.view(torch.int32) + draws) >> BITS
    return bits.to(torch.int16).view(torch.bfloat16)
