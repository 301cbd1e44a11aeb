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

Part = tuple[Tensor, Logs]
"""A loss and its logs, of a whole phase or of a part of one."""

Loss = Callable[[Batch, Rng], Part]
Parts = Callable[[Batch, Rng], Iterator[Part]]


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

    def parts(self, batch: Batch, rng: Rng) -> Iterator[Part]:
        """The loss as the only part."""
        yield self.loss(batch, rng)


@dataclass(frozen=True)
class PhaseInParts:
    """One optimizer step on a sum of losses, of which each is differentiated before the next one is
    computed, so that memory holds the graph of one."""

    name: str
    module: nn.Module
    parts: Parts
    """The losses add up to the loss of the micro-batch, and their logs to its logs. Weights stay as
    they are until the last of them."""
    after: Callable[[], None] = nothing
    """As in `Phase`."""


AnyPhase = Phase | PhaseInParts


def of_prior(batch: Batch, rng: Rng, why: str, parts: Parts) -> Iterator[Part]:
    """What the samples of other prompts beside this batch add to its loss and logs, with streams of
    their own: `parts` as a share of the step's, or nothing where none stands beside this one.

    ValueError, which says `why` they are needed, where the data have no prior.
    """
    if batch.prior is None:
        raise ValueError(f"{why} needs samples of other prompts beside each batch: set data.prior")
    if len(batch.prior) == 0:
        return
    seed, step, phase = rng.key
    own = Rng(seed, step, f"{phase} prior", batch.prior.ids, rng.device)
    for loss, logs in parts(batch.prior, own):
        scale = batch.prior_scale
        yield scale * loss, {name: scale * value for name, value in logs.items()}


class Method(Protocol):
    """A training method. The loop owns optimizers, accumulation, logging and checkpoints."""

    modules: Mapping[str, nn.Module]
    """Every module with state that a resumed run needs: trained ones, EMA shadows."""

    def phases(self, step: int) -> Iterator[AnyPhase]:
        """The phases of this step, in order. A schedule is said here and nowhere else."""
        ...

    def exported(self) -> nn.Module:
        """The module that is sampled from and written to disk (the EMA, where there is one)."""
        ...
