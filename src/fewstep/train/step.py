"""One step of any method.

for each phase of the step:
    gradient = sum over micro-batches of (their share of the samples) x (their gradient),
               one part of a loss after the other, and over processes
    clip, move the phase's module, phase.after()

With sharded weights the gradient is that of a plain backward pass: FSDP2's leaves come and go with
each forward, so none can be named before. What has moved in a step needs no gradient in the rest of
it; what moves later keeps its own, for its graph may have begun (decisions 3 and 13).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.methods.base import AnyPhase, Logs, Method
from fewstep.nets.shard import reshard
from fewstep.rng import Rng
from fewstep.train.in_backward import step_in_backward
from fewstep.train.optim import Optim
from fewstep.train.ranks import ALONE, Ranks
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
    ranks: Ranks = ALONE,
) -> str | None:
    """One step. A phase that is not finite moves nothing and ends the step; it is returned.

    The phases after it may stand on what it left, so they are skipped as well. `batches` are those
    of all processes, which find the same; `means` are of this one's share, and the first has those
    of the whole beside them (loss and norm of the gradient).
    """
    total = sum(len(batch) for batch in batches)
    moved = [(batch.to(device), len(batch) / total) for batch in ranks.share(batches)]
    moved += [(batch.to(device), 0.0) for batch in ranks.padding(batches)]
    with resharded_after(method, optims, ranks):
        for phase in method.phases(step):
            optim = optims.get(phase.name)
            if optim is None:
                raise ValueError(
                    f"the method has a phase {phase.name!r}, but there are optimizers only for "
                    f"{', '.join(sorted(optims))}"
                )
            optim.zero_grad()
            if optim.cfg.in_backward:
                loss, norm, logs = in_backward(phase, moved, optim, ranks, seed, step, device)
                if bad := not_finite(phase, loss, norm):
                    return bad
                phase.after()
                means.setdefault(phase.name, Means()).add(logs | {"loss": loss, "grad_norm": norm})
                continue
            # FSDP2 takes the mean over processes, where shares of a step have to add up; its
            # divisor can be set, but not with gloo
            scale, inputs = float(ranks.count), None
            if not ranks.sharded:
                scale, inputs = 1.0, list(optim.parameters.values())
            loss, logs = accumulate(
                phase, moved, inputs, scale=scale, seed=seed, step=step, device=device
            )
            if not ranks.sharded:
                ranks.total_gradients(list(optim.parameters.values()))
            loss, norm = ranks.total(loss), optim.norm()
            if bad := not_finite(phase, loss, norm):
                optim.zero_grad()
                return bad
            optim.step(norm)
            optim.zero_grad()
            phase.after()
            if ranks.sharded:
                optim.train(False)
            whole = {"loss": loss, "grad_norm": norm} if ranks.first else {}
            means.setdefault(phase.name, Means()).add(logs | whole)
    return None


def not_finite(phase: AnyPhase, loss: Tensor, norm: Tensor) -> str | None:
    # One look for both: every look waits for the device.
    if bool((loss.isfinite() & norm.isfinite()).item()):
        return None
    what = "loss" if not math.isfinite(loss.item()) else "gradient"
    return f"the {what} of phase {phase.name!r}"


def in_backward(
    phase: AnyPhase, batches: Sequence[tuple[Batch, float]], optim: Optim, ranks: Ranks,
    seed: int, step: int, device: torch.device | str,
) -> tuple[Tensor, Tensor, Logs]:  # fmt: skip
    """`train.in_backward`, of the only micro-batch of the only process."""
    if len(batches) != 1 or ranks.count > 1 or ranks.sharded:
        raise ValueError(
            f"optim.{phase.name}.in_backward moves weights before another gradient is known: it "
            f"takes one micro-batch a step and one process, got {len(batches)} and {ranks.count}; "
            "prompts of several lengths are several: set data.alike to true, data.batch_size to 1 "
            "or in_backward to false"
        )
    [(batch, _)] = batches
    return step_in_backward(phase, batch, optim, Rng(seed, step, phase.name, batch.ids, device))


@contextmanager
def resharded_after(method: Method, optims: Mapping[str, Optim], ranks: Ranks) -> Iterator[None]:
    """A step may leave sharded weights gathered and without need of a gradient; after the block,
    however it ends, they are as before."""
    try:
        yield
    finally:
        if ranks.sharded:
            reshard(method.modules.values())
            for optim in optims.values():
                optim.train(True)


def accumulate(
    phase: AnyPhase,
    batches: Sequence[tuple[Batch, float]],
    inputs: Sequence[Tensor] | None,
    *,
    scale: float,
    seed: int,
    step: int,
    device: torch.device | str,
) -> tuple[Tensor, Logs]:
    """Gradients, loss and other logs of these micro-batches, each with its share of the step's
    samples.

    inputs  what is differentiated; None is everything that the loss depends on
    scale   of the gradients alone

    A part is differentiated before the next one is asked for.
    """
    loss_sum = torch.zeros((), device=device)
    sums: Logs = {}
    for batch, share in batches:
        rng = Rng(seed, step, phase.name, batch.ids, device)
        for loss, logs in phase.parts(batch, rng):
            (scale * share * loss).backward(inputs=inputs)
            loss_sum = loss_sum + share * loss.detach()
            for name, value in logs.items():
                part = share * value.detach()
                sums[name] = sums[name] + part if name in sums else part
    sums.pop("loss", None)  # some methods log it themselves
    return loss_sum, sums
