"""LADD on the toy backbone, with everything the loop needs: for tests of the loop."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from tests.toy import ToyBackbone
from torch import Tensor

from fewstep.data.batches import Batches
from fewstep.families.base import Cond
from fewstep.methods.ladd import LADD, LADDConfig
from fewstep.nets.heads import Heads, HeadsConfig
from fewstep.rng import Rng
from fewstep.runs import Run
from fewstep.shapes import Latent
from fewstep.train.loop import LoopConfig, Outcome, train
from fewstep.train.optim import Optim, OptimConfig, updates_per_phase

CFG = LADDConfig(
    layers=(0, 2),
    heads=HeadsConfig(hidden=16, groups=4, embed=8),
    student_every=2,
    heads_first=0,
    warmup_steps=3,
    ema_decay=0.9,
)
HEADS = OptimConfig(lr=3e-3, warmup=2, schedule="cosine")
STUDENT = OptimConfig(lr=1e-3, clip=0.5, weight_decay=0.01)


class Drawn:
    """Random latents under conditions of two bucket lengths."""

    def __init__(self, n: int = 20) -> None:
        self.ids = [f"s{i}" for i in range(n)]
        self.lengths = [3 + 40 * (i % 2) for i in range(n)]
        rng = Rng(0, 0, "data", self.ids)
        self.x0 = rng.randn(2, 4, 4)
        self.tokens = [t[:k] for t, k in zip(rng.randn(43, 6), self.lengths, strict=True)]

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        return self.x0[list(rows)], Cond(tuple(self.tokens[i] for i in rows))


class Game:
    """A method and its optimizers, new from the same seeds each time."""

    def __init__(self, *, steps: int = 12, cfg: LADDConfig = CFG, micro_batch: int = 6) -> None:
        teacher = ToyBackbone(seed=0).requires_grad_(False)
        heads = Heads(cfg.heads, width=teacher.width, cond_width=6, count=2, seed=0)
        self.method = LADD(cfg, student=ToyBackbone(seed=1), teacher=teacher, heads=heads)
        total = updates_per_phase(self.method, steps)
        self.optims = {
            "heads": Optim(HEADS, heads, total=total["heads"]),
            "student": Optim(STUDENT, self.method.student, total=total["student"]),
        }
        self.batches = Batches(Drawn(), batch_size=6, seed=0, micro_batch=micro_batch)
        self.loop = LoopConfig(steps=steps, log_every=4, checkpoint_every=5, keep=2)
        self.said = io.StringIO()

    def train(self, run: Run, **changes: int) -> Outcome:
        return train(
            self.method, self.batches, replace(self.loop, **changes), run, self.optims,
            seed=0, console=Console(file=self.said, width=300),
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """Every tensor that training moves."""
        found: dict[str, Tensor] = {}
        for name, module in self.method.modules.items():
            found |= {f"{name}.{k}": v.clone() for k, v in module.state_dict().items()}
        for name, optim in self.optims.items():
            tensors, facts = optim.state()
            found |= {f"{name}:{k}": v.clone() for k, v in tensors.items()}
            found[f"{name}:updates"] = torch.tensor(facts["updates"])
        return found


def new_run(directory: Path) -> Run:
    return Run.create(directory, "seed: 0\n")


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, different
