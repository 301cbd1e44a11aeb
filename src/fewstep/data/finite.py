"""No sample that is not finite reaches a model: it is named before the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.errors import UserError


@dataclass(frozen=True)
class Finite:
    """The same micro-batches; UserError names the first sample of which something is not finite.

    It ends the run and is not skipped. Samples were finite when they were written, under a
    checksum: so a file was made by something else, or the machine is broken; and a sample that is
    left out in every epoch is a training set that nobody chose.
    """

    batches: Callable[[int], list[Batch]]

    def __call__(self, step: int) -> list[Batch]:
        found = self.batches(step)
        for batch in found:
            check(batch, step)
        return found


def check(batch: Batch, step: int) -> None:
    for i, name in enumerate(batch.ids):
        for what, value in parts(batch, i):
            if not value.isfinite().all():
                bad = int((~value.isfinite()).sum())
                raise UserError(
                    f"the {what} of sample {name.rpartition('@')[0]} is not finite ({bad} of "
                    f"{value.numel()} values), met at step {step}: delete the file that holds it "
                    "(the id stands in the JSON beside a shard, and is the content of a picture) "
                    "and run the same command to make it again"
                )
    if batch.prior is not None:
        check(batch.prior, step)


def parts(batch: Batch, i: int) -> Iterator[tuple[str, Tensor]]:
    yield "latent", batch.x0[i]
    yield "condition", batch.cond.tokens[i]
    if batch.context is not None:
        yield "context", batch.context.tokens[i]
