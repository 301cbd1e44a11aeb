"""Methods on the toy backbone whose weights are divided among real processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo  # FSDP2 imports it at its first pass: once, before processes are forked
from tests.games import CFG, Drawn
from tests.toy import ToyBackbone
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from fewstep.data.batches import Batches
from fewstep.experiment.sharding import divide
from fewstep.methods.base import Method
from fewstep.methods.ladd import LADD
from fewstep.methods.sft import SFT, SFTConfig
from fewstep.nets.heads import Heads
from fewstep.nets.shard import ShardingConfig
from fewstep.runs import Follower, Run
from fewstep.train import loop
from fewstep.train.loop import LoopConfig, Outcome
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.parts import Stored, files_by_name
from fewstep.train.ranks import Ranks, started

WHOLE = ShardingConfig()
DIVIDED = ShardingConfig(mode="parameters")
RATES = {"heads": 1e-4, "student": 1e-5}
"""Those of recipes for large models. Adam divides by the gradient's size, so what is rounded
differently in a small gradient is a share of the rate."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `start` trains, with everything that decides where it ends."""

    method: str = "ladd"
    steps: int = 20
    micro_batch: int = 2
    """Of batches of 6: two processes have two and one of them, and four have not one each."""
    every: int = 10

    def built(self) -> tuple[Method, ToyBackbone]:
        """The method and its frozen teacher."""
        teacher = ToyBackbone(seed=0).requires_grad_(False)
        student = ToyBackbone(seed=1)
        if self.method == "sft":
            return SFT(SFTConfig(ema_decay=0.9), student=student), teacher
        heads = Heads(CFG.heads, width=teacher.width, cond_width=6, count=2, seed=0)
        return LADD(CFG, student=student, teacher=teacher, heads=heads), teacher

    def optims(self, method: Method) -> dict[str, Optim]:
        return {
            name: Optim(OptimConfig(lr=rate, clip=0.5, weight_decay=0.01), method.modules[name],
                        total=self.steps)
            for name, rate in RATES.items() if name in method.modules
        }  # fmt: skip

    def go(self, out: Path, cfg: ShardingConfig, ranks: Ranks, **changes: int) -> Outcome:
        """Train in the run directory `out`, or go on there, as one of `ranks`."""
        torch.set_num_threads(1)
        method, teacher = self.built()
        if cfg.on:
            mesh = init_device_mesh("cpu", (ranks.count,))
            divide(method, [teacher], cfg, mesh)
        batches = Batches(Drawn(), batch_size=6, seed=0, micro_batch=self.micro_batch)
        run = Follower(out)
        if ranks.first:
            there = (out / "config.yaml").is_file()
            run = Run.open(out) if there else Run.create(out, "seed: 0\n")
        ranks.wait()
        steps = LoopConfig(steps=self.steps, log_every=5, checkpoint_every=self.every, **changes)
        with run:
            return loop.train(method, batches, steps, run, self.optims(method), seed=0, ranks=ranks)

    def rank(self, out: Path, cfg: ShardingConfig) -> int:
        """The same as a process that torchrun has started."""
        with started("cpu", sharded=cfg.on) as ranks:
            return 0 if self.go(out, cfg, ranks).finished else 1


def saved(checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, whole."""
    found: dict[str, Tensor] = {}
    for kind in ("module", "optim"):
        for name, files in files_by_name(checkpoint, kind).items():
            stored = Stored(files)
            for key in stored.names():
                found[f"{kind}.{name}/{key}"] = value = torch.zeros(stored.shape(key))
                stored.fill(key, value)
    return found


def largest(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)
