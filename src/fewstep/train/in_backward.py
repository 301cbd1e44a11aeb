"""An optimizer step inside the backward pass: each weight moves as soon as its gradient is there.

No more than one gradient exists at a time, which spares two or four bytes a weight. The price: what
decides about a step as a whole comes too late. Gradients are clipped by the norm of the step
before, the first ones each by its own; and one that is not finite counts as zero, which moves its
weight by moments and decay alone, while others have moved. A loss that is not finite moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.methods.base import AnyPhase, Logs, Phase
from fewstep.rng import Rng
from fewstep.train.optim import Optim


def step_in_backward(
    phase: AnyPhase, batch: Batch, optim: Optim, rng: Rng
) -> tuple[Tensor, Tensor, Logs]:
    """Loss, norm of all gradients (infinite where one was not finite) and logs of a step that has
    moved what it could. ValueError for a phase whose loss comes in parts: the second would stand on
    moved weights."""
    if not isinstance(phase, Phase):
        raise ValueError(
            f"optim.{phase.name}.in_backward is true, but the loss of this method comes in parts: "
            "set it to false"
        )
    loss, logs = phase.loss(batch, rng)
    logs = {name: value.detach() for name, value in logs.items() if name != "loss"}
    if loss.device.type != "meta" and not bool(loss.isfinite()):
        return loss.detach(), torch.full_like(loss, torch.inf), logs
    moves = Moves(optim)
    handles = [
        p.register_post_accumulate_grad_hook(partial(moves.move, name))
        for name, p in optim.parameters.items()
    ]
    try:
        loss.backward(inputs=list(optim.parameters.values()))
    finally:
        for handle in handles:
            handle.remove()
    norms = moves.norms or [torch.zeros((), device=loss.device)]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    optim.has_moved(norm)
    return loss.detach(), norm, logs


class Moves:
    """The updates of one step."""

    def __init__(self, optim: Optim) -> None:
        self.optim, self.norms = optim, list[Tensor]()

    def move(self, name: str, p: nn.Parameter) -> None:
        """As soon as it has a gradient."""
        assert p.grad is not None
        norm = torch.linalg.vector_norm(p.grad, dtype=torch.float32)
        # a look at each would wait for the device: what is not finite becomes zero, unseen
        p.grad = torch.where(norm.isfinite(), p.grad, 0)
        self.norms.append(norm.nan_to_num(torch.inf))
        self.optim.step_of(name, norm)
        p.grad = None


def reached(optims: Mapping[str, Optim]) -> str:
    """What a step that is not finite has moved."""
    if any(optim.cfg.in_backward for optim in optims.values()):
        return "weights that moved in its backward pass before it was known stay so"
    return "nothing of it reached the weights"
