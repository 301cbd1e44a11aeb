"""Batches: what a training step sees, and the order in which samples come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import torch

from fewstep.families.base import Cond
from fewstep.rng import seed_of
from fewstep.shapes import Latent

BUCKET = 32
"""Condition lengths are padded to multiples of this many tokens inside the model."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples with conditions of one padded length, so that no token is spent on padding."""

    ids: tuple[str, ...]
    x0: Latent
    cond: Cond

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(ids=self.ids, x0=self.x0.to(device), cond=self.cond.to(device))


class Samples(Protocol):
    """Clean latents of one size with their conditions, by position."""

    @property
    def ids(self) -> Sequence[str]:
        """Distinct names; the random streams of a sample hang on its own."""
        ...

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each condition."""
        ...

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        """x0 (b, c, h, w) and conditions of these positions."""
        ...


def bucket(length: int) -> int:
    """Conditions of one bucket have the same padded length."""
    return -(-length // BUCKET)


class Batches:
    """An endless, shuffled stream: the samples of a step depend on (seed, step) and nothing else.

    An epoch is a permutation of all samples; a batch may begin in one epoch and end in the next,
    so every sample comes equally often. Ids are made unique for each occurrence ("id@epoch").

    A step is a list of micro-batches of at most `micro_batch` samples, each of conditions of one
    padded length. One exception: a sample that is alone in its bucket joins the next one, since
    losses that compare samples need two (for an odd batch, `micro_batch` 2 may so become 3).
    How a batch is split moves no sample from one step to another.
    """

    def __init__(
        self, samples: Samples, *, batch_size: int, seed: int, micro_batch: int | None = None
    ) -> None:
        micro_batch = batch_size if micro_batch is None else micro_batch
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if not 1 <= micro_batch <= batch_size:
            raise ValueError(
                f"micro_batch must lie in 1 .. batch_size = {batch_size}, got {micro_batch}"
            )
        if not samples.ids:
            raise ValueError("there are no samples to train on")
        if len(set(samples.ids)) != len(samples.ids):
            raise ValueError("sample ids must differ, or samples would share their noise")
        self.samples = samples
        self.batch_size, self.micro_batch, self.seed = batch_size, micro_batch, seed
        self.order = lru_cache(maxsize=2)(self.permutation)

    def permutation(self, epoch: int) -> list[int]:
        """The order of all samples in this epoch."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
        return torch.randperm(len(self.samples.ids), generator=generator).tolist()

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(position, epoch) of each sample of a step."""
        n = len(self.samples.ids)
        first = step * self.batch_size
        places = (divmod(i, n) for i in range(first, first + self.batch_size))
        return [(self.order(epoch)[place], epoch) for epoch, place in places]

    def __call__(self, step: int) -> list[Batch]:
        """The micro-batches of a step; each counts by its share of the samples."""
        return [self.gather(rows) for rows in self.split(self.rows(step))]

    def split(self, rows: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Micro-batches: by bucket, and within a bucket as even as can be."""
        by_bucket: dict[int, list[tuple[int, int]]] = {}
        for row in rows:
            by_bucket.setdefault(bucket(self.samples.lengths[row[0]]), []).append(row)
        groups = [by_bucket[key] for key in sorted(by_bucket)]
        if self.micro_batch > 1:
            groups = joined(groups)
        return [part for group in groups for part in evenly(group, self.micro_batch)]

    def gather(self, rows: list[tuple[int, int]]) -> Batch:
        x0, cond = self.samples.take([position for position, _ in rows])
        ids = tuple(f"{self.samples.ids[position]}@{epoch}" for position, epoch in rows)
        return Batch(ids=ids, x0=x0, cond=cond)


def joined(groups: list[list[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """Groups of one appended to the next group, or to the one before if there is none."""
    result: list[list[tuple[int, int]]] = []
    carried: list[tuple[int, int]] = []
    for group in groups:
        here = carried + group
        carried = here if len(here) == 1 else []
        if not carried:
            result.append(here)
    if carried and result:
        result[-1] = result[-1] + carried
    elif carried:
        result.append(carried)
    return result


def evenly(group: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    """Parts of at most `size`, whose lengths differ by at most one; none of one if size > 1."""
    parts = -(-len(group) // size)
    if size > 1:
        parts = max(1, min(parts, len(group) // 2))
    edges = [len(group) * i // parts for i in range(parts + 1)]
    return [group[a:b] for a, b in pairwise(edges)]
