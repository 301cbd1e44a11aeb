"""A built experiment whose weights are divided among the processes that train it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from fewstep.experiment.builder import Built, make_optims
from fewstep.experiment.config import Experiment
from fewstep.methods.base import Method
from fewstep.nets.ema import Ema
from fewstep.nets.shard import ShardingConfig, shard, shard_blocks
from fewstep.train.frozen import Frozen
from fewstep.train.ranks import Ranks


def divided(built: Built, experiment: Experiment, ranks: Ranks) -> Built:
    """The same with all that trains, and its averages, sharded in place, and optimizers and
    checksums of the parts; as it is where the experiment shards nothing. All processes call it at
    once.

    Comes after everything that reads whole weights, such as fingerprints.
    """
    if not ranks.sharded:
        return built
    mesh = init_device_mesh(built.device.type, (ranks.count,))
    models = built.family.backbone, built.teacher.backbone
    divide(built.method, {id(b): b for b in models}.values(), experiment.sharding, mesh)
    return replace(
        built, optims=make_optims(experiment, built.method),
        frozen=Frozen(built.method.modules, models),
    )  # fmt: skip


def divide(
    method: Method, frozen: Iterable[nn.Module], cfg: ShardingConfig, mesh: DeviceMesh
) -> None:
    """In place; optimizers of before are then of parameters that are there no more."""
    for module in method.modules.values():
        if isinstance(module, Ema):  # it has no forward of its own, and its module no backward
            if module.module is not None:
                shard(module.module, mesh)
        else:
            shard(module, mesh, whole_in_step=cfg.mode == "optimizer")
    if cfg.teacher == "sharded":
        for module in frozen:
            shard_blocks(module, mesh)
