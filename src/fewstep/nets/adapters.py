"""Adapters on the Linear layers of a backbone: a small trained module beside each frozen layer.

A student is `adapt`ed inside a tree of its own (`share(base)`); the base model is the other tree. A
second `adapt` stacks a trained adapter on the one that is there. What acts on "the adapter" of a
tree (`adapters_of`, `adapter_state`, `load_adapter_state`, `set_strength`) means the last one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar, assert_never

import torch
from torch import Tensor, nn

from fewstep.nets.lokr import LoKr, LoRA, factorization
from fewstep.nets.share import share
from fewstep.rng import seed_of

Adapter = LoKr | LoRA
TargetName = Literal["attention", "feed_forward", "modulation", "text"]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    kind: Literal["lokr", "lora"] = "lokr"
    factor: int = 8
    """LoKr: a dimension n is split into (factor, n / factor), or, where the factor does not divide
    n, by its largest divisor below (`factorization`); -1 is the most even split."""
    rank: int | None = None
    """None is full rank, which only a LoKr can be. As in LyCORIS, the second factor of a LoKr is
    full in layers where the rank is at least half of its longer side."""
    targets: tuple[TargetName, ...] = ("attention", "feed_forward", "modulation")
    """Groups of layers, by `Backbone.targets`. "text" is what reads the prompt before any picture
    is there; the others are of the blocks that picture and prompt go through together."""

    def __post_init__(self) -> None:
        if self.factor != -1 and self.factor < 2:
            raise ValueError(
                f"factor must be -1 (the most even split) or at least 2, got {self.factor}"
            )
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be >= 1, or none for full rank, got {self.rank}")
        if self.kind == "lora" and self.rank is None:
            raise ValueError('an adapter of kind "lora" needs a rank, got none; set rank = 16')
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets must name distinct groups of layers, got {self.targets}")


class Adapted(nn.Module):
    """x -> base(x) + strength adapter(x), in place of the layer `base`.

    name       of the layer, as adapter files call it
    level      0 for the first adapter of a tree, 1 for one stacked on it, and so on
    strength   a constant of the tree. To have it on in one forward pass and off in another, take
               two trees: under activation checkpointing a change between forward and backward is
               a wrong gradient.

    `weight` and `bias` are for code that reads a layer instead of calling it.
    """

    def __init__(
        self, base: nn.Linear | Adapted, adapter: Adapter, *, name: str, level: int = 0
    ) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter
        self.name, self.level = name, level
        self.strength = 1.0

    @property
    def linear(self) -> nn.Linear:
        """The layer under all adapters."""
        return self.base.linear if isinstance(self.base, Adapted) else self.base

    @property
    def bias(self) -> Tensor | None:
        return self.linear.bias

    @property
    def weight(self) -> Tensor:
        """(out, in), in the base's dtype, with gradient to the adapter."""
        return self.exact_weight().to(self.linear.weight.dtype)

    def exact_weight(self) -> Tensor:
        """The same before rounding: at least float32, for the sum is made in the adapter's."""
        base = self.base.exact_weight() if isinstance(self.base, Adapted) else self.base.weight
        return base + self.strength * self.adapter.delta()

    def forward(self, x: Tensor) -> Tensor:
        # in place: a Linear's output is new and its gradient needs no copy of it
        return self.base(x).add_(self.adapter(x), alpha=self.strength)


class Adaptable(Protocol):
    """A `Backbone` (`families.base`), as far as this file needs it."""

    targets: ClassVar[Mapping[str, tuple[str, ...]]]

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...

    def set_submodule(self, target: str, module: nn.Module) -> None: ...


def adapt(backbone: Adaptable, cfg: AdapterConfig, seed: int) -> list[str]:
    """Put a new adapter on every target layer of this tree and return their names.

    What the model computes stays as it was until the adapter is trained. The caller freezes the
    base and passes a tree that nobody else runs: `share(base)`. The seed and a layer's name decide
    its initial weights. ValueError where a target group matches no layer, or the factor cannot
    split one; the tree is then as it was.
    """
    levels = [m.level for _, m in backbone.named_modules() if isinstance(m, Adapted)]
    level = max(levels, default=-1) + 1
    new = {
        path: Adapted(layer, _new(layer, cfg, name, seed), name=name, level=level)
        for name, (path, layer) in _targets(backbone, cfg).items()
    }
    for path, adapted in new.items():
        backbone.set_submodule(path, adapted)
    return [adapted.name for adapted in new.values()]


def _targets(
    backbone: Adaptable, cfg: AdapterConfig
) -> dict[str, tuple[str, nn.Linear | Adapted]]:  # fmt: skip
    """By name in adapter files: path in the tree and layer."""
    found: dict[str, tuple[str, nn.Linear | Adapted]] = {}
    for group in cfg.targets:
        before = len(found)
        for ends in backbone.targets.get(group, ()):
            # a name in a file starts below whatever the backbone calls its transformer
            pattern = rf"(?:.*\.)?({re.escape(ends).replace(re.escape('*'), '[0-9]+')})"
            for path, layer in backbone.named_modules():
                if match := re.fullmatch(pattern, path):
                    if not isinstance(layer, nn.Linear | Adapted):
                        raise ValueError(f"{path} is no Linear, but a {type(layer).__name__}")
                    found[match[1]] = path, layer
        if len(found) == before:
            raise ValueError(
                f"targets names {group!r}, which matches no layer of this model; it declares "
                f"{sorted(backbone.targets)}"
            )
    return found


def _new(layer: nn.Linear | Adapted, cfg: AdapterConfig, name: str, seed: int) -> Adapter:
    linear = layer.linear if isinstance(layer, Adapted) else layer
    out, inner = linear.out_features, linear.in_features
    device = next(linear.parameters()).device
    generator = torch.Generator().manual_seed(seed_of("adapter", seed, name))
    match cfg.kind:
        case "lora":
            assert cfg.rank is not None
            return LoRA(out, inner, rank=cfg.rank, generator=generator, device=device)
        case "lokr":
            outs, ins = factorization(out, cfg.factor), factorization(inner, cfg.factor)
            if outs[0] == ins[0] == 1:
                raise ValueError(
                    f"factor {cfg.factor} cannot split {name}, {inner} -> {out}; take another "
                    "factor or leave the layer's group out of targets"
                )
            low = cfg.rank is not None and cfg.rank < max(outs[1], ins[1]) / 2
            rank = cfg.rank if low else None
            return LoKr(outs, ins, rank=rank, generator=generator, device=device)
        case _:
            assert_never(cfg.kind)


def _outermost(module: nn.Module) -> dict[str, Adapted]:
    """By path: every adapted layer that is not under another adapter."""
    inner: set[Adapted] = set()
    found: dict[str, Adapted] = {}
    for path, layer in module.named_modules():  # a layer comes before what is in it
        if isinstance(layer, Adapted):
            if layer not in inner:
                found[path] = layer
            if isinstance(layer.base, Adapted):
                inner.add(layer.base)
    return found


def _last(module: nn.Module) -> dict[str, Adapted]:
    """By name: the layers of the adapter that was attached last. ValueError where there is none."""
    layers = list(_outermost(module).values())
    if not layers:
        raise ValueError("this model holds no adapter; call adapt first")
    level = max(layer.level for layer in layers)
    last = [layer for layer in layers if layer.level == level]
    named = {layer.name: layer for layer in last}
    if len(named) != len(last):
        raise ValueError("this module holds two adapted models; pass one of them")
    return named


def adapters_of(module: nn.Module) -> dict[str, Adapter]:
    """The adapter of each layer, by the names that `adapt` returned."""
    return {name: layer.adapter for name, layer in _last(module).items()}


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """The trained tensors, detached and not copied: "layers.0.attention.to_q.lokr_w1" and so on."""
    return {
        f"{name}.{key}": value.detach()
        for name, adapter in adapters_of(module).items()
        for key, value in adapter.named_parameters()
    }


@torch.no_grad()
def load_adapter_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy such tensors into the adapter. ValueError, with nothing copied, where they do not fit:
    every tensor of the adapter must be there, in its shape, and no other."""
    own = adapter_state(module)
    if odd := sorted(own.keys() ^ state.keys()):
        where = "the adapter" if odd[0] in own else "the state"
        raise ValueError(
            f"{odd[0]!r} is in {where} only ({len(odd)} names differ); adapt with the kind, rank "
            "and targets of the state"
        )
    for key, value in own.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{key!r} has the shape {tuple(state[key].shape)} in the state and "
                f"{tuple(value.shape)} in the adapter; adapt with the factor and rank of the state"
            )
    for key, value in own.items():
        value.copy_(state[key])


def set_strength(module: nn.Module, strength: float) -> None:
    """How much of the adapter is added: 0 is the model without it. See `Adapted`."""
    for layer in _last(module).values():
        layer.strength = strength


@torch.no_grad()
def merged(module: M) -> M:
    """A copy in which every adapted layer is a Linear again, all adapters in its weight.

    Merged weights are rounded once, to the base's dtype. All else is shared with `module`
    (`nets.share`).
    """
    copy = share(module)
    for path, layer in _outermost(copy).items():
        linear = layer.linear
        trains = linear.weight.requires_grad
        linear.weight = nn.Parameter(layer.weight, requires_grad=trains)
        copy.set_submodule(path, linear)
    return copy
