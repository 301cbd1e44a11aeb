"""The two kinds of adapter: a Kronecker product (LoKr) and a low-rank product (LoRA).

    LoKr   delta = w1 (x) w2,  w1: (a, b),  w2: (c, d) or (c, r)(r, d)   LyCORIS, arXiv:2309.14859
    LoRA   delta = B A,        A: (r, in),  B: (out, r)                  arXiv:2106.09685

Both are scaled by alpha / rank with alpha = rank, that is by 1. Parameters have the names of the
file formats and are float32, whatever the layer's dtype; a forward casts them to that of its input.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def factorization(n: int, factor: int) -> tuple[int, int]:
    """(m, n / m): how LyCORIS splits a dimension of n.

    m is `factor` where that divides n. Otherwise m <= n / m, and m is the largest divisor of n up
    to `factor` (-1: up to the square root of n, the most even split); 1 where there is none.
    """
    if factor != -1 and factor < 1:
        raise ValueError(f"factor must be -1 (the most even split) or >= 1, got {factor}")
    if factor > 0 and n % factor == 0:
        return factor, n // factor
    root = math.isqrt(n)
    most = root if factor == -1 else min(root, factor)
    m = next(m for m in range(most, 0, -1) if n % m == 0)
    return m, n // m


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Kaiming-uniform as LyCORIS and peft have it: within +- 1 / sqrt(columns)."""
    return nn.init.kaiming_uniform_(torch.empty(rows, columns), a=5**0.5, generator=generator)


class LoKr(nn.Module):
    """x -> x (w1 (x) w2)^T as two small products; 0 until it is trained.

    outs, ins   (a, c) and (b, d): the layer maps b * d features to a * c
    rank        r of the second factor; None is a full one
    generator   decides w1 (and w2_b), on the CPU; w2 (or w2_a) begins as 0
    """

    def __init__(
        self, outs: tuple[int, int], ins: tuple[int, int], *, rank: int | None = None,
        generator: torch.Generator, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__()
        (a, c), (b, d) = outs, ins
        self.lokr_w1 = nn.Parameter(_uniform(a, b, generator).to(device))
        self.rank = rank
        if rank is None:
            self.lokr_w2 = nn.Parameter(torch.zeros(c, d, device=device))
        else:
            self.lokr_w2_a = nn.Parameter(torch.zeros(c, rank, device=device))
            self.lokr_w2_b = nn.Parameter(_uniform(rank, d, generator).to(device))
        self.place = cheapest_place(a, b, (d, c) if rank is None else (d, rank, c))

    def second(self) -> tuple[Tensor, ...]:
        """w2 as the matrices that a row meets, in their order."""
        return (self.lokr_w2,) if self.rank is None else (self.lokr_w2_b, self.lokr_w2_a)

    def delta(self) -> Tensor:
        """(out, in): the materialised product, for merging."""
        w2 = self.lokr_w2 if self.rank is None else self.lokr_w2_a @ self.lokr_w2_b
        return torch.kron(self.lokr_w1, w2)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out).

        With x as rows of (b, d), w2 acts on the columns and w1 on the rows, so the two commute. No
        order needs a transposed copy: all products leave (..., a or b, width) contiguous.
        """
        h = x.unflatten(-1, (self.lokr_w1.shape[1], -1))
        second = self.second()
        for w in second[: self.place]:
            h = F.linear(h, w.to(x.dtype))
        # expanded, for torch multiplies a matrix by a batch through transposed copies of the batch
        h = self.lokr_w1.to(x.dtype).expand(*h.shape[:-2], -1, -1) @ h
        for w in second[self.place :]:
            h = F.linear(h, w.to(x.dtype))
        return h.flatten(-2)


def cheapest_place(a: int, b: int, widths: tuple[int, ...]) -> int:
    """How many matrices of w2, which lead through `widths`, to multiply before w1 (a, b).

    Before w1 a matrix meets b rows, after it a rows, and w1 itself costs a b for each column that
    it finds: with a = b it belongs where the columns are fewest.
    """

    def cost(place: int) -> int:
        steps = enumerate(pairwise(widths))
        products = sum((b if i < place else a) * m * n for i, (m, n) in steps)
        return products + a * b * widths[place]

    return min(range(len(widths)), key=cost)


class LoRA(nn.Module):
    """x -> x (B A)^T; A is drawn from the generator (on the CPU), B begins as 0."""

    def __init__(
        self, out: int, inner: int, *, rank: int, generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__()
        self.lora_A = nn.Parameter(_uniform(rank, inner, generator).to(device))
        self.lora_B = nn.Parameter(torch.zeros(out, rank, device=device))

    def delta(self) -> Tensor:
        """(out, in)."""
        return self.lora_B @ self.lora_A

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(F.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))
