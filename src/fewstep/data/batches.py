"""Batches: what a training step sees, and the order in which samples come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

Place = tuple[int, int]
"""(position, epoch): which sample, and for which time it comes."""

Kind = tuple[tuple[int, ...], tuple[int, ...]]
"""(size, padded lengths) of a sample: one micro-batch has one size, and one length if it can."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples with conditions of one padded length, so that no token is spent on padding."""

    ids: tuple[str, ...]
    x0: Latent
    cond: Cond
    context: Cond | None = None
    """What a teacher sees of the same samples: the prompt beside its picture, or a fuller one."""
    prior: Batch | None = None
    """Samples of other prompts, which training should leave as they are: the part of the step's
    that stands beside these, which may be none of them."""
    prior_scale: float = 1.0
    """What a mean over `prior` counts beside one over these; see `fewstep.data.prior.shared_out`.
    """

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            ids=self.ids, x0=self.x0.to(device), cond=self.cond.to(device),
            context=None if self.context is None else self.context.to(device),
            prior=None if self.prior is None else self.prior.to(device),
            prior_scale=self.prior_scale,
        )  # fmt: skip


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


class Order:
    """An endless, shuffled stream: the samples of a step depend on (seed, step) and nothing else.

    An epoch is a permutation of all samples; a batch may begin in one epoch and end in the next,
    so every sample comes equally often.
    """

    def __init__(
        self, ids: Sequence[str], *, batch_size: int, seed: int, micro_batch: int | None = None
    ) -> None:
        micro_batch = batch_size if micro_batch is None else micro_batch
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if not 1 <= micro_batch <= batch_size:
            raise ValueError(
                f"micro_batch must lie in 1 .. batch_size = {batch_size}, got {micro_batch}"
            )
        if not ids:
            raise ValueError("there are no samples to train on")
        if len(set(ids)) != len(ids):
            raise ValueError("sample ids must differ, or samples would share their noise")
        self.n, self.batch_size, self.micro_batch, self.seed = (
            len(ids), batch_size, micro_batch, seed,
        )  # fmt: skip
        self.epoch = lru_cache(maxsize=2)(self.permutation)

    def permutation(self, epoch: int) -> list[int]:
        """The order of all samples in this epoch."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
        return torch.randperm(self.n, generator=generator).tolist()

    def places(self, step: int) -> list[Place]:
        """The samples of a step."""
        first = step * self.batch_size
        found = (divmod(i, self.n) for i in range(first, first + self.batch_size))
        return [(self.epoch(epoch)[place], epoch) for epoch, place in found]

    def split(self, places: Sequence[Place], kind: Callable[[Place], Kind]) -> list[list[Place]]:
        """Micro-batches: by size and padded length, and within these as even as can be.

        They hold at most `micro_batch` samples, with one exception: a sample that is alone with
        its length joins others of its size, since losses that compare samples need two (for an odd
        batch, `micro_batch` 2 may so become 3). Only one that is alone in its size stays alone.
        """
        by_size: dict[tuple[int, ...], dict[tuple[int, ...], list[Place]]] = {}
        for place in places:
            size, lengths = kind(place)
            by_size.setdefault(size, {}).setdefault(lengths, []).append(place)
        parts: list[list[Place]] = []
        for _, by_length in sorted(by_size.items()):
            groups = [group for _, group in sorted(by_length.items())]
            if self.micro_batch > 1:
                groups = joined(groups)
            parts += [part for group in groups for part in evenly(group, self.micro_batch)]
        return parts


class Batches:
    """The micro-batches of each step, of samples of one size.

    order  of the samples; None is an `Order` by the other arguments

    Ids are made unique for each occurrence ("id@epoch"). How a batch is split moves no sample from
    one step to another.
    """

    def __init__(
        self, samples: Samples, *, batch_size: int, seed: int, micro_batch: int | None = None,
        order: Order | None = None,
    ) -> None:  # fmt: skip
        self.samples = samples
        self.order = order or Order(
            samples.ids, batch_size=batch_size, seed=seed, micro_batch=micro_batch
        )

    def __call__(self, step: int) -> list[Batch]:
        """Each counts by its share of the samples."""
        parts = self.order.split(self.order.places(step), self.kind)
        return [self.gather(part) for part in parts]

    def kind(self, place: Place) -> Kind:
        return (), (bucket(self.samples.lengths[place[0]]),)

    def gather(self, places: Sequence[Place]) -> Batch:
        x0, cond = self.samples.take([position for position, _ in places])
        ids = tuple(f"{self.samples.ids[position]}@{epoch}" for position, epoch in places)
        return Batch(ids=ids, x0=x0, cond=cond)


def joined(groups: list[list[Place]]) -> list[list[Place]]:
    """Groups of one appended to the next group, or to the one before if there is none."""
    result: list[list[Place]] = []
    carried: list[Place] = []
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


def evenly(group: list[Place], size: int) -> list[list[Place]]:
    """Parts of at most `size`, whose lengths differ by at most one; none of one if size > 1."""
    parts = -(-len(group) // size)
    if size > 1:
        parts = max(1, min(parts, len(group) // 2))
    edges = [len(group) * i // parts for i in range(parts + 1)]
    return [group[a:b] for a, b in pairwise(edges)]
