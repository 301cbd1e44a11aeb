"""Frozen linear layers in eight or four bits of a weight, unpacked for each product.

    int8     127 steps to either side of zero, over the largest weight of each row
    float8   e4m3 (Micikevicius et al. 2022, arXiv:2209.05433), over the largest of each row
    nf4      16 values at quantiles of a normal distribution, over the largest of each 64 weights
             (Dettmers et al. 2023, arXiv:2305.14314, appendix E)

Products are those of the unpacked weight, in the type of what comes in. Autograd keeps nothing of
it: the way back unpacks once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PackedName = Literal["int8", "float8", "nf4"]
FrozenName = Literal["dtype", "int8", "float8", "nf4"]
"""As they are, or packed."""
BLOCK = 64
"""Weights of nf4 that share a scale."""
STEPS = 127.0
LARGEST = torch.finfo(torch.float8_e4m3fn).max
TINY = torch.finfo(torch.float32).tiny


@cache
def normal_values() -> Tensor:
    """The 16 values of nf4, ascending: eight quantiles above zero, seven below, and zero."""
    # so that the outermost ones lie as far in as the mean of two ways to place 15 and 16 quantiles
    outermost = (1 - 1 / 30 + 1 - 1 / 32) / 2

    def quantiles(n: int) -> Tensor:
        return torch.special.ndtri(torch.linspace(outermost, 0.5, n + 1, dtype=torch.float64))[:-1]

    found = torch.cat([-quantiles(7), torch.zeros(1, dtype=torch.float64), quantiles(8)])
    return (found / found.abs().max()).sort().values.float()


def to_packed(weight: Tensor, kind: PackedName) -> tuple[Tensor, Tensor]:
    """Codes and float32 scales of a weight, (out, in); `from_packed` undoes it up to rounding."""
    wide = weight.detach().float()
    if kind == "nf4":
        blocks = F.pad(wide.flatten(), (0, -wide.numel() % BLOCK)).view(-1, BLOCK)
        scales = blocks.abs().amax(1)
        known = normal_values().to(wide.device)
        shares = blocks / scales.clamp(min=TINY)[:, None]
        codes = torch.bucketize(shares, (known[:-1] + known[1:]) / 2, out_int32=True)
        first, second = codes.to(torch.uint8).view(-1, 2).unbind(1)
        return first << 4 | second, scales
    scales = wide.abs().amax(1, keepdim=True) / (STEPS if kind == "int8" else LARGEST)
    shares = wide / scales.clamp(min=TINY)
    if kind == "int8":
        return shares.round().to(torch.int8), scales
    # as plain bytes: `module.to(dtype)` would turn a float8 into something else
    return shares.to(torch.float8_e4m3fn).view(torch.uint8), scales


def from_packed(
    codes: Tensor, scales: Tensor, kind: PackedName, shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """The weight, (out, in): computed in float32, then rounded to `dtype`."""
    match kind:
        case "int8":
            return (codes * scales).to(dtype)
        case "float8":
            return (codes.view(torch.float8_e4m3fn).float() * scales).to(dtype)
        case "nf4":
            known = normal_values().to(codes.device)
            each = known[torch.stack([codes >> 4, codes & 15], 1).int()]
            blocks = each.view(-1, BLOCK) * scales[:, None]
            return blocks.flatten()[: shape[0] * shape[1]].view(shape).to(dtype)
        case _:
            assert_never(kind)


class PackedLinear(nn.Linear):
    """A frozen Linear over packed weights. `weight` is for code that reads a layer instead of
    calling it: unpacked anew each time, in the dtype that the layer had."""

    def __init__(self, layer: nn.Linear, kind: PackedName) -> None:
        nn.Module.__init__(self)  # Linear's own makes a weight
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.kind: PackedName = kind
        self.dtype = layer.weight.dtype
        codes, scales = to_packed(layer.weight, kind)
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.bias = layer.bias
        self.scales = nn.Parameter(scales, requires_grad=False)

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.unpacked(self.dtype)

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        shape = self.out_features, self.in_features
        return from_packed(self.codes, self.scales, self.kind, shape, dtype)

    def forward(self, input: Tensor) -> Tensor:
        found = Product.apply(input, self)
        return found if self.bias is None else found + self.bias

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.kind}"


class Product(torch.autograd.Function):
    """x times a packed weight; differentiable towards x, as often as wanted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layer = layer
        return F.linear(x, layer.unpacked(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient @ ctx.layer.unpacked(gradient.dtype), None


def pack(module: nn.Module, names: Iterable[str], kind: PackedName) -> None:
    """Pack these Linears of a module, one after the other: no more than one is there twice.

    Trees that share the module's weights are left with what they had. ValueError where a layer
    trains, or is no Linear; one that is packed already stays as it is.
    """
    for name in names:
        layer = module.get_submodule(name)
        if isinstance(layer, PackedLinear):
            continue
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is no Linear, but a {type(layer).__name__}")
        if layer.weight.requires_grad:
            raise ValueError(f"{name} trains, and only frozen layers can be packed")
        module.set_submodule(name, PackedLinear(layer, kind))
