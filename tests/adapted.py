"""Adapters on a real Z-Image at tiny size, with weights as training might leave them."""

from __future__ import annotations

import torch
from tests.tiny import tiny_zimage
from torch import Tensor, nn

from fewstep.families.base import Cond
from fewstep.families.zimage import ZImageBackbone
from fewstep.nets.adapters import AdapterConfig, adapt, adapter_state
from fewstep.nets.share import share

KINDS = {
    "lokr": AdapterConfig(factor=4),
    "even lokr": AdapterConfig(factor=-1),
    "low-rank lokr": AdapterConfig(factor=4, rank=3),
    "lora": AdapterConfig(kind="lora", rank=3),
}
LOKR = KINDS["lokr"]
SIGMA = torch.tensor([0.9, 0.3])
GROUPS = {
    "attention": {"attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"},
    "feed_forward": {"feed_forward.w1", "feed_forward.w2", "feed_forward.w3"},
    "modulation": {"adaLN_modulation.0"},
}
"""Of the blocks that picture and prompt go through together: what an adapter changes unless told
otherwise."""
TEXT = {"cap_embedder.1"} | {
    f"context_refiner.0.{name}" for name in GROUPS["attention"] | GROUPS["feed_forward"]
}


def layer_names(depth: int) -> set[str]:
    """Of every layer that an adapter of all groups changes."""
    ends = [name for group in GROUPS.values() for name in group]
    return {f"layers.{i}.{name}" for i in range(depth) for name in ends}


ALL = layer_names(6)


def new_base() -> ZImageBackbone:
    backbone = tiny_zimage().backbone
    assert isinstance(backbone, ZImageBackbone) and backbone.depth == 6
    return backbone


def noise(seed: int = 0) -> Tensor:
    return torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(seed))


def cond(backbone: ZImageBackbone) -> Cond:
    """Of one padded length, so that the fused backbone takes its fast way."""
    generator = torch.Generator().manual_seed(1)
    width = backbone.cond_width
    return Cond(tuple(torch.randn(n, width, generator=generator) for n in (5, 9)))


def run(backbone: ZImageBackbone) -> Tensor:
    return backbone(noise(), SIGMA, cond(backbone))


def scramble(module: nn.Module, seed: int = 2, size: float = 0.2) -> None:
    """Adapter weights as training might leave them."""
    generator = torch.Generator().manual_seed(seed)
    for value in adapter_state(module).values():
        value.normal_(0, size, generator=generator)


def student_of(base: ZImageBackbone, cfg: AdapterConfig = LOKR, seed: int = 2) -> ZImageBackbone:
    """A trained adapter over the weights of base."""
    student = share(base)
    adapt(student, cfg, seed=0)
    scramble(student, seed)
    return student


def gradients(backbone: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())
