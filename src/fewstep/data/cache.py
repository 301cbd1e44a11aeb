"""A directory of samples that was computed once: shards, their index, and a key that is checked.

cache.json                 every fact that decides the samples; another key is refused, field by
                           field. Beside it how they are computed, which rounds them
shard_*.safetensors|json   see `data.shards`
index.parquet|json         see `data.index`
leases/  quarantine/       what is being computed; what was damaged

At the start small sets are verified in full and large ones at their headers and a few rows; each
row is verified again whenever it is read.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.data.index import Index
from fewstep.data.publish import publish
from fewstep.data.reading import Files, Spans
from fewstep.data.shards import Row, Span, broken, shard_path
from fewstep.errors import UserError
from fewstep.families.base import Cond
from fewstep.shapes import Latent

Key = Mapping[str, Any]
"""What decides the content of a cache, as JSON values."""

CACHE = "cache.json"
COMPUTED = "computed"
SMALL = 1 << 28
"""Bytes that are verified in full at the start."""
LOOKS = 64
"""Rows that are verified at the start where there are more."""


def difference(found: Key, wanted: Key) -> list[str]:
    """One line for each field in which two keys differ."""
    return [
        f"{name}: {found.get(name, 'nothing')!r} there, {wanted.get(name, 'nothing')!r} here"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]


def check_writable(directory: Path) -> None:
    """UserError where `alone` would give one, without making anything."""
    there = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UserError(unusable(directory, f"{there} is a file"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(unusable(directory, f"{there} is not writable"))


def unusable(directory: Path, why: str) -> str:
    return (
        f"teacher samples cannot be kept in {directory}: {why}; set data.cache or data.directory "
        "to a folder of yours"
    )


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Make the directory and wait until no other process works in it; the lock vanishes with its
    process. UserError if it cannot be made or written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise UserError(unusable(directory, error.strerror or str(error))) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Computed:
    """What rounds the samples of a directory, and decides nothing else: all workers do as the first
    one did."""

    together: int
    """Samples in a batch."""
    threads: int | None
    """Of the processor; None where it does not compute them."""


def begin(directory: Path, key: Key, computed: Computed) -> Computed:
    """Make the directory one of this key, and say how its samples are computed. UserError if it is
    of another key or cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / CACHE).exists():
            facts = {**key, COMPUTED: vars(computed)}
            publish(directory / CACHE, json.dumps(facts, indent=1).encode() + b"\n")
    except OSError as error:
        raise UserError(unusable(directory, error.strerror or str(error))) from None
    return check_key(directory, key)


def check_key(directory: Path, key: Key) -> Computed:
    """How the samples of a directory are computed; UserError where it is none of this key."""
    found, computed = read_key(directory)
    # Through JSON, so that tuples and lists compare equal.
    if lines := difference(found, json.loads(json.dumps(key))):
        raise UserError(
            f"the samples in {directory} were made for something else ({'; '.join(lines)}); "
            "choose another directory or change the configuration back"
        )
    return computed


def read_key(directory: Path) -> tuple[dict[str, Any], Computed]:
    """The key of a directory of samples, and how they are computed; UserError where it has none."""
    path = directory / CACHE
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{directory} holds no samples: {path.name}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); delete the directory {directory}") from None
    try:
        computed = found.pop(COMPUTED, {"together": 1, "threads": None})  # of an older format
        found |= {"prompts": int(found["prompts"]), "shard": int(found["shard"])}
        return found, Computed(**computed)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not that of teacher samples ({error!r}); choose another directory"
        ) from None


def suspects(directory: Path, index: Index) -> dict[int, str]:
    """The shards of which something is not what was written, and what: by all bytes of a small set,
    by sizes, headers and a few rows of a large one."""
    small = sum(shard.size for shard in index.shards) <= SMALL
    found: dict[int, str] = {}
    for i, shard in enumerate(index.shards):
        why = broken(shard_path(directory, i), shard.size, shard.header,
                     shard.crc32 if small else None)  # fmt: skip
        if why is None and not shard_path(directory, i).with_suffix(".json").exists():
            why = "its JSON is missing"
        if why is not None:
            found[i] = why
    if not small:
        with Files(directory) as files:
            spans = Spans(index)
            for position in np.linspace(0, len(index.table) - 1, LOOKS).astype(int):
                for shard, at in spans.of(int(position)):
                    if shard not in found and zlib.crc32(files.read(shard, at)) != at.crc32:
                        found[shard] = f"the crc32 of its bytes {at.begin} to {at.end} differs"
    return found


class SampleCache:
    """The samples of a finished cache, read row by row from disk; see `data.batches.Samples`.

    notes   what a user should hear of how they came about
    encode  reads the texts of a cache that does not keep their conditions
    """

    def __init__(
        self, directory: Path, key: Key, index: Index, notes: Sequence[str] = (),
        encode: Callable[[Sequence[str]], Cond] | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.key = key
        """What decided these samples: a run that goes on must find the same."""
        self.notes = tuple(notes)
        self.index = index
        self.ids: list[str] = index.table["id"].to_pylist()
        self.lengths: list[int] = index.table["length"].to_pylist()
        self.spans = Spans(index)
        self.files = Files(directory)
        self.encode = encode

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, position: int) -> Row:
        found = self.index.table.slice(position, 1).to_pylist()[0]
        return Row(found["id"], found["prompt"], found["picture"])

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        """UserError names a sample whose bytes are not what was written."""
        x0: list[Tensor] = []
        tokens: list[Tensor] = []
        for position in rows:
            latent, *text = self.spans.of(position)
            x0.append(self.tensor(position, *latent, "float32").view(self.index.shape))
            for own in text:
                flat = self.tensor(position, *own, self.index.tokens_dtype)
                tokens.append(flat.view(-1, self.index.width))
        if tokens:
            return torch.stack(x0), Cond(tuple(tokens))
        assert self.encode is not None  # a cache without conditions is opened with an encoder
        return torch.stack(x0), self.encode([self.row(position).prompt for position in rows])

    def tensor(self, position: int, shard: int, at: Span, dtype: str) -> Tensor:
        try:
            data = self.files.read(shard, at)
        except OSError:  # the file is gone, or the disk cannot read it
            data = b""
        if len(data) != at.end - at.begin or zlib.crc32(data) != at.crc32:
            raise UserError(
                f"the sample {self.ids[position]} is damaged: bytes {at.begin} to {at.end} of "
                f"{shard_path(self.directory, shard)} are not what was written; set it aside by "
                f"`fewstep precompute verify {self.directory} --quarantine`, and the same command "
                "makes it anew and goes on"
            )
        return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype))
