"""Samples beside those of a step that training should leave as they are (`Batch.prior`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from fewstep.data.batches import Batch, Samples
from fewstep.data.picture_samples import PictureSamples
from fewstep.rng import seed_of


class Prior(Protocol):
    """Samples in an order of their own, which depends on (seed, step) alone."""

    def __call__(self, step: int) -> Batch:
        """The samples of a step, all of one size, for a step may be one micro-batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class SamplePrior:
    """`Prior` of samples of one size: each step shuffles them anew and takes the first `size`, from
    the start again where they run out."""

    samples: Samples
    size: int
    seed: int

    def __call__(self, step: int) -> Batch:
        order = shuffled(len(self.samples.ids), self.seed, step)
        turns = [divmod(i, len(order)) for i in range(self.size)]
        rows = [order[place] for _, place in turns]
        x0, cond = self.samples.take(rows)
        ids = [
            f"{self.samples.ids[row]}@{turn}" for row, (turn, _) in zip(rows, turns, strict=True)
        ]
        return Batch(ids=tuple(ids), x0=x0, cond=cond)


@dataclass(frozen=True, kw_only=True)
class PicturePrior:
    """`Prior` of a folder. Each step shuffles the pictures anew, begins with the first and goes on
    with those of the same size, from the start again where they run out, so that in the long run
    every picture comes equally often."""

    samples: PictureSamples
    size: int
    seed: int

    def __call__(self, step: int) -> Batch:
        entries = self.samples.entries
        # 0, here and in the ids, was the micro-batch when each drew its own: runs of then go on
        order = shuffled(len(entries), self.seed, step, 0)
        alike = [i for i in order if self.shape(i) == self.shape(order[0])]
        ids: list[str] = []
        rows: list[int] = []
        for i in range(self.size):
            turn, place = divmod(i, len(alike))
            name, picture = entries[alike[place]]
            ids.append(f"{name}@0.{turn}")
            rows.append(self.samples.caption(picture, self.seed, "prior", step, ids[-1]))
        x0, cond = self.samples.take(rows)
        return Batch(ids=tuple(ids), x0=x0, cond=cond)

    def shape(self, entry: int) -> tuple[int, ...]:
        """Of the latent of an entry, whatever its caption."""
        _, picture = self.samples.entries[entry]
        return self.samples.rows[self.samples.captions[picture][0]].latent.shape


def shuffled(n: int, *stream: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed_of("prior", *stream))
    return torch.randperm(n, generator=generator).tolist()


@dataclass(frozen=True)
class WithPrior:
    """The micro-batches of each step with its samples of a prior shared out to them."""

    batches: Callable[[int], list[Batch]]
    prior: Prior

    def __call__(self, step: int) -> list[Batch]:
        return shared_out(self.prior(step), self.batches(step))


def shared_out(prior: Batch, batches: Sequence[Batch]) -> list[Batch]:
    """The micro-batches of a step, each with its part of the prior, whose sizes differ by at most
    one; where there are fewer samples than micro-batches the last of these have none.

    They are dealt one by one, so that processes, which take every n-th micro-batch, get equally
    many, and the first gets some at every step, by which means over steps are counted.
    """
    total, found = sum(map(len, batches)), list[Batch]()
    for i, batch in enumerate(batches):
        own = slice(i, None, len(batches))
        part = Batch(ids=prior.ids[own], x0=prior.x0[own], cond=prior.cond[own])
        # All that a micro-batch adds to a step counts by its share of the samples; of this what
        # its part of the prior adds should count by its share of the prior instead.
        scale = (len(part) / len(prior)) / (len(batch) / total)
        found.append(replace(batch, prior=part, prior_scale=scale))
    return found
