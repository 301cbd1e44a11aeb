"""LADD on the toy backbone, and what the loop does with one of its steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tests.toy import ToyBackbone
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.methods.base import Logs
from fewstep.methods.ladd import LADD, LADDConfig
from fewstep.nets.heads import Heads, HeadsConfig
from fewstep.rng import Rng

HEADS = HeadsConfig(hidden=16, groups=4, embed=8)
BASE = LADDConfig(
    layers=(0, 2), heads=HEADS, student_every=1, heads_first=0, warmup_steps=0, ema_decay=0.5
)


def ladd(cfg: LADDConfig = BASE, *, seed: int = 0, **sizes: int) -> LADD:
    teacher = ToyBackbone(seed=seed, **sizes).requires_grad_(False)
    student = ToyBackbone(seed=seed + 1, **sizes)
    heads = Heads(
        cfg.heads, width=teacher.width, cond_width=teacher.cond_width, count=len(cfg.layers), seed=0
    )
    return LADD(cfg, student=student, teacher=teacher, heads=heads)


def grads(module: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def run_step(
    method: LADD,
    batches: Sequence[Batch],
    *,
    step: int = 0,
    seed: int = 0,
    lrs: dict[str, float] | None = None,
) -> tuple[dict[str, list[Tensor]], dict[str, Logs]]:
    """What the loop does with a step, with plain gradient descent: gradients and last logs."""
    lrs = {"heads": 0.0, "student": 0.0} if lrs is None else lrs
    found: dict[str, list[Tensor]] = {}
    logs: dict[str, Logs] = {}
    for phase in method.phases(step):
        weights = [p for p in phase.module.parameters() if p.requires_grad]
        phase.module.zero_grad()
        for batch in batches:
            loss, logs[phase.name] = phase.loss(batch, Rng(seed, step, phase.name, batch.ids))
            (loss / len(batches)).backward(inputs=weights)
        found[phase.name] = grads(phase.module)
        with torch.no_grad():
            for p in weights:
                assert p.grad is not None
                p.sub_(lrs[phase.name] * p.grad)
        phase.after()
    return found, logs
