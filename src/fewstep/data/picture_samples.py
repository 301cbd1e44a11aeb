"""Pictures as samples: each with one of its texts, in batches of one size.

Its texts are its captions, then the further prompts that are read beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from fewstep.data.batches import Batch, Kind, Order, Place, bucket
from fewstep.data.folder import Context, Folder, Picture
from fewstep.data.picture_cache import PictureCache
from fewstep.data.picture_encoding import PictureEncoding, Stored
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.families.base import Cond
from fewstep.rng import seed_of
from fewstep.shapes import Latent


@dataclass(frozen=True)
class Described:
    """A picture with one of its texts; the tensors lie in the cache."""

    name: str
    latent: Stored
    cond: Stored
    context: Stored | None


class PictureSamples:
    """`fewstep.data.batches.Samples` whose positions are pairs of a picture and a text.

    Unlike those of other samples, latents differ in size: `take` wants positions of one size.
    """

    def __init__(self, cache: PictureCache) -> None:
        """Use `read_pictures`, which fills it."""
        self.cache = cache
        self.rows: list[Described] = []
        self.captions: list[list[int]] = []
        """The positions of each picture."""
        self.entries: list[tuple[str, int]] = []
        """(name, picture) of whatever comes in an epoch: each picture as often as it says."""

    def add(self, picture: Picture, described: Sequence[Described]) -> None:
        """A picture with all its texts."""
        index, first = len(self.captions), len(self.rows)
        self.rows += described
        self.captions.append(list(range(first, len(self.rows))))
        for again in range(picture.repeats):
            self.entries.append((f"{picture.content}-{again}" if again else picture.content, index))

    @property
    def ids(self) -> Sequence[str]:
        return [row.name for row in self.rows]

    @property
    def lengths(self) -> Sequence[int]:
        return [row.cond.shape[0] for row in self.rows]

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        found = [self.rows[i] for i in rows]
        x0 = torch.stack([self.read(row.latent) for row in found])
        return x0, Cond(tuple(self.read(row.cond) for row in found))

    def context(self, rows: Sequence[int]) -> Cond | None:
        """What a teacher sees of these positions; None where the folder has nothing for it."""
        found = tuple(
            self.read(row.context) for row in map(self.rows.__getitem__, rows) if row.context
        )
        return Cond(found) if found else None

    def read(self, stored: Stored) -> Tensor:
        return self.cache.get(stored.key, gone)

    def kind(self, row: int) -> Kind:
        """Of a position: the size of its latent, and the padded lengths of what is read."""
        read = self.rows[row]
        texts = [read.cond] if read.context is None else [read.cond, read.context]
        return read.latent.shape, tuple(bucket(text.shape[0]) for text in texts)

    def caption(self, picture: int, *stream: str | int) -> int:
        """The position of one of a picture's texts, drawn from the stream of this name."""
        positions = self.captions[picture]
        return positions[seed_of("caption", *stream) % len(positions)]


def gone() -> Tensor:
    raise UserError(
        "a file of the pictures' cache was removed while it was in use; run the same command to "
        "make it again"
    )


def read_pictures(folder: Folder, encoding: PictureEncoding, told: Told = quiet) -> PictureSamples:
    """Latents and conditions of all pictures and texts, after computing what is not cached."""
    samples = PictureSamples(encoding.cache)
    for done, picture in enumerate(folder.pictures, 1):
        latent = encoding.latent(picture)
        described = [
            Described(
                f"{picture.content}#{i}", latent, encoding.prompt(text),
                context_of(folder.cfg.context, encoding, picture, i),
            )
            for i, text in enumerate(texts_of(picture))
        ]  # fmt: skip
        samples.add(picture, described)
        told("encoding pictures", done, len(folder.pictures))
    return samples


def texts_of(picture: Picture) -> tuple[str, ...]:
    """What is read with it, in the order of its positions."""
    return (*picture.captions, *picture.prompts)


def context_of(
    context: Context, encoding: PictureEncoding, picture: Picture, i: int
) -> Stored | None:
    """What a teacher sees of a picture's text i."""
    match context:
        case "none":
            return None
        case "picture":
            return encoding.beside(texts_of(picture)[i], picture)
        case "prompt":
            return encoding.prompt(picture.enhanced[i])
        case _:
            assert_never(context)


class PictureBatches:
    """The micro-batches of each step, of pictures of one size each (see `Order`).

    Each picture comes as often as its repeats say, however many texts it has; which of them is a
    draw from (seed, picture, epoch). A batch may hold a picture several times, under distinct
    ids ("id@epoch") and so with distinct noise.
    """

    def __init__(
        self, samples: PictureSamples, *, batch_size: int, seed: int,
        micro_batch: int | None = None,
    ) -> None:  # fmt: skip
        self.samples, self.seed = samples, seed
        names = [name for name, _ in samples.entries]
        self.order = Order(names, batch_size=batch_size, seed=seed, micro_batch=micro_batch)

    def __call__(self, step: int) -> list[Batch]:
        """Each counts by its share of the samples."""
        parts = self.order.split(
            self.order.places(step), lambda place: self.samples.kind(self.row(place))
        )
        return [self.gather(part) for part in parts]

    def row(self, place: Place) -> int:
        """The picture and caption of a place in the order."""
        (name, picture), epoch = self.samples.entries[place[0]], place[1]
        return self.samples.caption(picture, self.seed, name, epoch)

    def gather(self, places: Sequence[Place]) -> Batch:
        rows = [self.row(place) for place in places]
        x0, cond = self.samples.take(rows)
        return Batch(
            ids=tuple(f"{self.samples.entries[entry][0]}@{epoch}" for entry, epoch in places),
            x0=x0, cond=cond, context=self.samples.context(rows),
        )  # fmt: skip
