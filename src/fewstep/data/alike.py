"""Steps whose samples all have prompts of one padded length, and so are one micro-batch.

An epoch deals the samples of each length, shuffled, into whole batches, which come in any order.
What is left of a length sits the epoch out; in the next one others do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from fewstep.data.batches import BUCKET, Batches, Order, Place, Samples, bucket
from fewstep.errors import UserError
from fewstep.rng import seed_of


class AlikeOrder(Order):
    """An `Order` of samples with conditions of these lengths.

    ValueError where no length has enough samples for a batch.
    """

    def __init__(
        self, ids: Sequence[str], *, lengths: Sequence[int], batch_size: int, seed: int,
        micro_batch: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(ids, batch_size=batch_size, seed=seed, micro_batch=micro_batch)
        self.buckets = [bucket(length) for length in lengths]
        sizes = {b: self.buckets.count(b) for b in set(self.buckets)}
        self.steps = sum(size // batch_size for size in sizes.values())
        """Of an epoch."""
        self.never = sum(size for size in sizes.values() if size < batch_size)
        """Samples that no batch ever has, for too few are as long."""
        if self.steps == 0:
            raise ValueError(
                f"data.alike is true, but of no length (up to multiples of {BUCKET} tokens) there "
                f"are {batch_size} samples, the most are {max(sizes.values())}: set "
                "data.batch_size lower, or data.alike to false"
            )
        self.dealt = lru_cache(maxsize=2)(self.deal)

    def deal(self, epoch: int) -> list[list[int]]:
        """The batches of this epoch."""
        hands: dict[int, list[int]] = {}
        whole: list[list[int]] = []
        for row in self.epoch(epoch):
            hand = hands.setdefault(self.buckets[row], [])
            hand.append(row)
            if len(hand) == self.batch_size:
                whole.append(hands.pop(self.buckets[row]))
        draws = torch.Generator().manual_seed(seed_of(self.seed, "batches", epoch))
        return [whole[i] for i in torch.randperm(len(whole), generator=draws).tolist()]

    def places(self, step: int) -> list[Place]:
        epoch, place = divmod(step, self.steps)
        return [(row, epoch) for row in self.dealt(epoch)[place]]


def batches_of(
    samples: Samples, *, alike: bool, batch_size: int, seed: int, micro_batch: int,
    notes: list[str],
) -> Batches:  # fmt: skip
    """In steps of any lengths, or of one; `notes` gets what a user should hear. UserError where no
    length has enough samples."""
    if not alike:
        return Batches(samples, batch_size=batch_size, seed=seed, micro_batch=micro_batch)
    try:
        order = AlikeOrder(
            samples.ids, lengths=samples.lengths, batch_size=batch_size, seed=seed,
            micro_batch=micro_batch,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from error
    if order.never:
        notes.append(
            f"data.alike leaves {order.never} of {len(samples.ids)} samples out for good: fewer "
            f"than data.batch_size = {batch_size} have prompts as long"
        )
    return Batches(samples, batch_size=batch_size, seed=seed, order=order)
