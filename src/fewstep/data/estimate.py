"""How long teacher samples will take and how much room, measured before they are drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from fewstep.data.drawing import draw
from fewstep.data.shards import Row
from fewstep.data.task import Task
from fewstep.families.base import Cond
from fewstep.shapes import Latent


@dataclass(frozen=True)
class Estimate:
    """Of one sample by one process of this machine."""

    seconds: float
    bytes: float


def estimate(task: Task) -> Estimate:
    """By a batch at one and at two steps: their difference is a step, the rest is said once for a
    sample. The pass before them, which compiles and fills caches, is not counted."""
    cfg, few = task.cfg, task.rows[: task.cfg.batch]

    def drawn(steps: int) -> tuple[list[Row], Latent, Cond]:
        own = replace(cfg, steps=steps)
        return draw(own, task.family, few, task.shown, lambda done: None)

    read, x0, cond = drawn(1)
    taken: list[float] = []
    for steps in (1, 2):
        begun = time.monotonic()
        drawn(steps)
        taken.append(time.monotonic() - begun)
    one, two = taken
    step = max(two - one, 0.0)
    texts = sum(t.nbytes for t in cond.tokens) if cfg.texts == "kept" else 0
    return Estimate(
        seconds=(max(one - step, 0.0) + cfg.steps * step) / len(read),
        bytes=(x0.nbytes + texts) / len(read),
    )
