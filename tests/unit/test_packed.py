"""Packed layers: how near they are, what they compute and keep, and what they refuse."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from fewstep.nets.packed import (
    BLOCK,
    PackedLinear,
    PackedName,
    from_packed,
    normal_values,
    pack,
    to_packed,
)
from fewstep.nets.share import share

KINDS: tuple[PackedName, ...] = get_args(PackedName)
BITS = {"int8": 8, "float8": 8, "nf4": 4}
QLORA = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
"""As they are printed in appendix E of arXiv:2305.14314."""


def layer(rows: int = 96, columns: int = 160, *, bias: bool = True, seed: int = 0) -> nn.Linear:
    draws = torch.Generator().manual_seed(seed)
    made = nn.Linear(columns, rows, bias=bias)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=draws) / 16)
    return made.requires_grad_(False)


def packed_again(weight: Tensor, kind: PackedName) -> Tensor:
    codes, scales = to_packed(weight, kind)
    rows, columns = weight.shape
    return from_packed(codes, scales, kind, (rows, columns), torch.float32)


def test_the_values_of_nf4_are_those_of_its_paper() -> None:
    assert_close(normal_values(), torch.tensor(QLORA), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_goes_to_the_nearest_value(kind: PackedName) -> None:
    """By looking at all values, one after the other."""
    weight = layer().weight
    each = packed_again(weight, kind)
    match kind:
        case "int8":
            shares, known = (
                weight / weight.abs().amax(1, keepdim=True),
                torch.arange(-127, 128) / 127,
            )
            kept = each / weight.abs().amax(1, keepdim=True)
        case "float8":
            every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
            known = every[every.isfinite()].unique() / 448
            shares = weight / weight.abs().amax(1, keepdim=True)
            kept = each / weight.abs().amax(1, keepdim=True)
        case "nf4":
            blocks = weight.view(-1, BLOCK)
            largest = blocks.abs().amax(1, keepdim=True)
            shares, known = blocks / largest, torch.tensor(QLORA)
            kept = each.view(-1, BLOCK) / largest
    distances = (shares[..., None] - known).abs()
    assert_close((shares - kept).abs(), distances.amin(-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_weight_is_kept_and_zero_stays_zero(kind: PackedName) -> None:
    """Of each row, or of each block, which here is a row."""
    weight = layer(columns=BLOCK).weight.clone()
    weight[3] = 0
    again = packed_again(weight, kind)
    assert torch.equal(again[3], torch.zeros_like(again[3]))
    assert_close(again.abs().amax(1), weight.abs().amax(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", (160, 161))
def test_bytes_are_a_half_or_a_quarter_of_sixteen_bits(kind: PackedName, columns: int) -> None:
    one = layer(columns=columns)
    made = PackedLinear(one.bfloat16(), kind)
    n = one.weight.numel()
    codes = made.codes.numel() * made.codes.element_size()
    padded = math.ceil(n / BLOCK) * BLOCK if kind == "nf4" else n
    assert codes == padded * BITS[kind] // 8
    assert made.weight.shape == (96, columns) and made.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_a_product_is_that_of_the_unpacked_weight(kind: PackedName, dtype: torch.dtype) -> None:
    one = layer()
    made, x = PackedLinear(one, kind), torch.randn(2, 7, 160).to(dtype)
    weight = made.unpacked(dtype)
    assert_close(made(x), F.linear(x, weight) + one.bias)
    no_bias = PackedLinear(layer(bias=False), kind)
    assert torch.equal(no_bias(x), F.linear(x, no_bias.unpacked(dtype)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_cross_it_once_and_twice(kind: PackedName) -> None:
    made = PackedLinear(layer(6, 4), kind)
    made.scales = nn.Parameter(made.scales.double(), requires_grad=False)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made, (x,))
    assert torch.autograd.gradgradcheck(lambda x: made(x).square(), (x,))


@pytest.mark.parametrize("kind", KINDS)
def test_autograd_keeps_no_unpacked_weight(kind: PackedName) -> None:
    made, kept = PackedLinear(layer(), kind), list[int]()
    x = torch.randn(2, 160, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.append(t.numel()), t)[1], lambda t: t
    ):
        made(x.tanh()).sum().backward()
    assert max(kept, default=0) <= x.numel() and x.grad is not None


def test_casting_a_model_leaves_codes_alone() -> None:
    for kind in KINDS:
        made = PackedLinear(layer(), kind)
        before = made.codes.clone()
        nn.Sequential(made).to(torch.bfloat16)
        assert torch.equal(made.codes, before)


def test_trees_over_one_model_share_codes() -> None:
    first = nn.Sequential(PackedLinear(layer(), "int8"))
    second = share(first)
    one, other = first[0], second[0]
    assert isinstance(one, PackedLinear) and isinstance(other, PackedLinear)
    assert one is not other and one.codes is other.codes and one.scales is other.scales


def test_what_trains_or_multiplies_nothing_is_refused_by_name() -> None:
    model = nn.Sequential(layer(), nn.LayerNorm(4), layer().requires_grad_(True))
    pack(model, ["0"], "int8")
    kept = model[0]
    pack(model, ["0"], "nf4")
    assert model[0] is kept  # as it is
    with pytest.raises(ValueError, match="1 is no Linear, but a LayerNorm"):
        pack(model, ["1"], "int8")
    with pytest.raises(ValueError, match="2 trains, and only frozen layers"):
        pack(model, ["2"], "int8")
