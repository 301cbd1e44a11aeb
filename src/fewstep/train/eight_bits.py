"""Numbers in eight bits: blocks of a tensor, each over its largest, as the nearest of 256 values.

The values lie dense near zero, where most moments of an optimizer are: seven decades, of which each
higher one is divided twice as finely (dynamic tree quantisation; Dettmers et al. 2022,
arXiv:2110.02861, section 2.2). A largest above zero is kept exactly.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 256
"""Numbers that share a scale: 4 bytes for 256."""
DECADES = 7


@cache
def values(*, signed: bool) -> Tensor:
    """The 256 values, ascending, of numbers in [-1, 1], or in [0, 1]."""
    found = [0.0, 1.0]
    for decade in range(DECADES):
        edges = torch.linspace(0.1, 1, 2 ** (decade + (not signed)) + 1, dtype=torch.float64)
        middles = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - DECADES + 1)).tolist()
        found += [*middles, *(-m for m in middles)] if signed else middles
    return torch.tensor(sorted(found), dtype=torch.float32)


def to_eight_bits(x: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Codes (uint8, the shape of x) and the scale of each block (float32)."""
    flat = x.detach().float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    shares = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    known = values(signed=signed).to(x.device)
    middles = (known[:-1] + known[1:]) / 2
    codes = torch.bucketize(shares, middles, out_int32=True).to(torch.uint8)
    return codes.flatten()[: len(flat)].view(x.shape), scales


def from_eight_bits(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """What `to_eight_bits` has kept, as float32."""
    known = values(signed=signed).to(codes.device)
    flat = known[codes.flatten().int()]
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK) * scales[:, None]
    return blocks.flatten()[: codes.numel()].view(codes.shape)
