"""What a method is: phases. One loop (`fewstep.train.loop`) runs them all, adversarial or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.rng import Rng

Logs = dict[str, Tensor]
"""Detached scalars (or short vectors, for example one value for each head) of one micro-batch."""

Loss = Callable[[Batch, Rng], tuple[Tensor, Logs]]


def nothing() -> None:
    """What most phases do after their optimizer step."""


@dataclass(frozen=True)
class Phase:
    """One optimizer step: the loss is differentiated with respect to `module` and nothing else."""

    name: str
    module: nn.Module
    loss: Loss
    after: Callable[[], None] = nothing
    """Called once after the optimizer step of this phase (an EMA update, for example)."""


class Method(Protocol):
    """A training method. The loop owns optimizers, accumulation, logging and checkpoints."""

    modules: Mapping[str, nn.Module]
    """Every module with state that a resumed run needs: trained ones, EMA shadows."""

    def phases(self, step: int) -> Iterator[Phase]:
        """The phases of this step, in order. A schedule is said here and nowhere else."""
        ...

    def exported(self) -> nn.Module:
        """The module that is sampled from and written to disk (the EMA, where there is one)."""
        ...
