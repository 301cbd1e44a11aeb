"""Methods on the toy backbone, trained by real processes that may share its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # FSDP2 imports it at its first pass: once, before processes are forked
from tests.games import CFG, Drawn
from tests.toy import ToyBackbone
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from fewstep.data.batches import Batch, Batches
from fewstep.data.prior import SamplePrior, WithPrior
from fewstep.experiment.sharding import divide
from fewstep.families.base import Cond
from fewstep.methods.base import Method
from fewstep.methods.distil import TeacherConfig
from fewstep.methods.dmd2 import DMD2, DMD2Config
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.methods.dreambooth import DreamBooth, DreamBoothConfig
from fewstep.methods.ladd import LADD
from fewstep.methods.offpolicy import OffPolicy, OffPolicyConfig
from fewstep.methods.pso import PSO, PSOConfig
from fewstep.methods.sda import SDA, SDAConfig
from fewstep.methods.sft import SFT, SFTConfig
from fewstep.nets.heads import Heads
from fewstep.nets.shard import ShardingConfig
from fewstep.runs import Follower, Run
from fewstep.train import loop
from fewstep.train.loop import Hook, LoopConfig, Outcome
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.parts import Stored, files_by_name
from fewstep.train.ranks import Ranks

WHOLE = ShardingConfig()
OPTIMIZER = ShardingConfig(mode="optimizer")
PARAMETERS = ShardingConfig(mode="parameters")
TEACHER = ShardingConfig(mode="parameters", teacher="sharded")
RATES = {"heads": 1e-4, "critic": 1e-4, "student": 1e-5}
"""Those of recipes for large models. Adam divides by the gradient's size, so what is rounded
differently in a small gradient is a share of the rate."""

BATCHES = Batches(Drawn(), batch_size=6, seed=0, micro_batch=2)
NO_PROMPT = Cond((torch.zeros(1, 6),))


def in_context(step: int) -> list[Batch]:
    """The same batches with all that a method may ask for: contexts, and a prior."""
    with_prior = WithPrior(BATCHES, SamplePrior(samples=Drawn(), size=6, seed=1))
    return [
        replace(batch, context=Cond(tuple(0.5 * t for t in batch.cond.tokens)))
        for batch in with_prior(step)
    ]


@dataclass(frozen=True, kw_only=True)
class Training:
    """A run of any method on all weights; all but LADD, SFT and DMD2 want batches `in_context`.

    Two steps of three have three micro-batches: of two processes one has a repeat that counts
    nothing, of four one has nothing else.
    """

    method: str = "ladd"
    sharding: ShardingConfig = WHOLE
    steps: int = 20
    every: int = 10
    """Steps between checkpoints."""
    hooks: tuple[Hook, ...] = ()
    batches: Callable[[int], Sequence[Batch]] = BATCHES

    def run(self, out: Path, ranks: Ranks) -> Outcome:
        """Train in a new run, or go on with the one that is there, as one of `ranks`."""
        torch.set_num_threads(1)
        ranks = replace(ranks, sharded=self.sharding.on)
        method, teacher = self.built()
        if ranks.sharded:
            divide(method, [teacher], self.sharding, init_device_mesh("cpu", (ranks.count,)))
        optims = {
            name: Optim(OptimConfig(lr=RATES[name], clip=0.5), module, total=self.steps)
            for name, module in method.modules.items() if name in RATES
        }  # fmt: skip
        cfg = LoopConfig(steps=self.steps, log_every=5, checkpoint_every=self.every, max_skips=3)
        there = (out / "config.yaml").is_file()
        ranks.wait()
        run = Follower(out)
        if ranks.first:
            run = Run.open(out) if there else Run.create(out, "seed: 0\n")
        ranks.wait()
        with run:
            return loop.train(
                method, self.batches, cfg, run, optims, self.hooks, seed=0, ranks=ranks
            )

    def built(self) -> tuple[Method, ToyBackbone]:
        """The method and its frozen teacher."""
        teacher = ToyBackbone(depth=2, seed=0).requires_grad_(False)
        student = ToyBackbone(depth=2, seed=1)
        base: dict[str, Any] = {"base": teacher, "sampler": "renoise"}
        match self.method:
            case "ladd":
                cfg = replace(CFG, layers=(1,))
                heads = Heads(cfg.heads, width=teacher.width, cond_width=6, count=1, seed=0)
                return LADD(cfg, student=student, teacher=teacher, heads=heads), teacher
            case "sft":
                return SFT(SFTConfig(ema_decay=0.9), student=student), teacher
            case "dmd2":
                cfg = DMD2Config(student_every=2, guidance=2.0)
                critic = ToyBackbone(depth=2, seed=2)
                return DMD2(
                    cfg, student=student, teacher=teacher, critic=critic, uncond=NO_PROMPT,
                    sampler="renoise",
                ), teacher  # fmt: skip
            case "dopsd":
                cfg = DOPSDConfig(tether_weight=1.0, visits=2, teacher=TeacherConfig(guidance=2.0))
                return DOPSD(cfg, student=student, uncond=NO_PROMPT, **base), teacher
            case "offpolicy":
                cfg = OffPolicyConfig(states="teacher", visits=2)
                return OffPolicy(cfg, student=student, uncond=NO_PROMPT, **base), teacher
            case "dreambooth":
                return DreamBooth(DreamBoothConfig(), student=student), teacher
            case "pso":
                return PSO(PSOConfig(), student=student, **base), teacher
            case "sda":
                cfg = SDAConfig(pool=1, states="own", teacher_steps=2, guidance=2.0)
                many = ToyBackbone(depth=2, seed=3).requires_grad_(False)
                return SDA(cfg, student=student, teacher=many, uncond=NO_PROMPT, **base), teacher
            case unknown:
                raise ValueError(unknown)


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
    """The largest difference."""
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)
