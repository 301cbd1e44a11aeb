"""Weights of which every process holds a part (torch's FSDP2).

A tensor that is sharded is cut along its first dimension; the forward pass of a block gathers what
it needs. Every forward is therefore something that all processes do together, or all wait for ever.
Between two steps everything is sharded again (`reshard`): what reads weights outside of a forward
(averages, optimizers, checkpoints) finds the parts and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    mode: Literal["none", "optimizer", "parameters"] = "none"
    """What the processes of torchrun divide among them of all that trains and of its average:
    nothing; gradients, moments and the weights between steps, with whole weights from a forward to
    its backward; or the weights within a step too, gathered block by block."""
    teacher: Literal["replicated", "sharded"] = "replicated"
    """Whether each process has frozen models whole, or gathers them block by block as well."""

    def __post_init__(self) -> None:
        if self.mode == "none" and self.teacher == "sharded":
            raise ValueError(
                "sharding.teacher is sharded, but sharding.mode is none, which shards nothing: set "
                "sharding.mode to parameters, or sharding.teacher to replicated"
            )

    @property
    def on(self) -> bool:
        return self.mode != "none"


def shard(module: nn.Module, mesh: DeviceMesh, *, whole_in_step: bool = False) -> None:
    """Shard all parameters of a module in place, block by block. Its gradients come to be the
    means over all processes.

    whole_in_step  what a forward has gathered stays until the backward pass
    """
    for part in (*blocks(module), module):
        fully_shard(part, mesh=mesh, reshard_after_forward=not whole_in_step)
    # torch warns of blocks that return views, which nobody may change in place: none of ours does
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)


def shard_blocks(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the blocks of a frozen module and leave the little around them whole.

    `families.tap` leaves a forward in the middle, and FSDP2 would believe a module around the
    blocks to be inside of it from then on.
    """
    for part in blocks(module):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists: a transformer's blocks, LADD's heads."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks(child)


def sharded(module: nn.Module) -> Iterator[FSDPModule]:
    for part in module.modules():
        if isinstance(part, FSDPModule):
            yield part


def reshard(modules: Iterable[nn.Module]) -> None:
    """Give back what forwards without a backward have gathered."""
    for module in modules:
        for part in sharded(module):
            part.reshard()


def held(tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """What this process holds of a tensor, without a graph, and where in the whole it begins."""
    if not isinstance(tensor, DTensor):
        return tensor.detach(), (0,) * tensor.ndim
    if tensor.placements != (Shard(0),):
        raise ValueError(f"a tensor is sharded as {tensor.placements}, not along its first axis")
    rows, mesh = len(tensor), tensor.device_mesh
    first = min(rows, -(-rows // mesh.size()) * mesh.get_local_rank())
    with torch.no_grad():
        return tensor.to_local(), (first, *(0 for _ in tensor.shape[1:]))


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together; all processes ask for it at once."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)
