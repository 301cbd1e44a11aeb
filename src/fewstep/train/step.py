"""One step of any method.

for each phase of the step:
    gradient = sum over micro-batches of (their share of the samples) x (their gradient),
               one part of a loss after the other
    clip, move the phase's module, phase.after()
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.methods.base import AnyPhase, Logs, Method
from fewstep.rng import Rng
from fewstep.train.optim import Optim
from fewstep.train.rows import Means


def run_step(
    method: Method,
    batches: Sequence[Batch],
    optims: Mapping[str, Optim],
    means: dict[str, Means],
    *,
    seed: int,
    step: int,
    device: torch.device | str = "cpu",
) -> str | None:
    """One step. A phase that is not finite moves nothing and ends the step; it is returned.

    The phases after it may stand on what it left, so they are skipped as well.
    """
    moved = [batch.to(device) for batch in batches]
    for phase in method.phases(step):
        optim = optims.get(phase.name)
        if optim is None:
            raise ValueError(
                f"the method has a phase {phase.name!r}, but there are optimizers only for "
                f"{', '.join(sorted(optims))}"
            )
        optim.zero_grad()
        loss, logs = accumulate(phase, moved, optim, seed=seed, step=step, device=device)
        norm = optim.norm()
        # One look for both: every look waits for the device.
        if not bool((loss.isfinite() & norm.isfinite()).item()):
            optim.zero_grad()
            what = "loss" if not math.isfinite(loss.item()) else "gradient"
            return f"the {what} of phase {phase.name!r}"
        optim.step(norm)
        optim.zero_grad()
        phase.after()
        means.setdefault(phase.name, Means()).add(logs | {"grad_norm": norm})
    return None


def accumulate(
    phase: AnyPhase,
    batches: Sequence[Batch],
    optim: Optim,
    *,
    seed: int,
    step: int,
    device: torch.device | str,
) -> tuple[Tensor, Logs]:
    """Gradients, loss and logs of a step, each micro-batch with its share of the samples.

    A part is differentiated before the next one is asked for.
    """
    total = sum(len(batch) for batch in batches)
    inputs = list(optim.parameters.values())
    loss_sum = torch.zeros((), device=device)
    sums: Logs = {}
    for batch in batches:
        share = len(batch) / total
        rng = Rng(seed, step, phase.name, batch.ids, device)
        for loss, logs in phase.parts(batch, rng):
            (share * loss).backward(inputs=inputs)
            loss_sum = loss_sum + share * loss.detach()
            for name, value in logs.items():
                part = share * value.detach()
                sums[name] = sums[name] + part if name in sums else part
    return loss_sum, {"loss": loss_sum} | sums
