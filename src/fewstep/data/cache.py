"""A directory of samples that was computed once: safetensors shards under a key that is checked.

cache.json             every fact that decides the samples; another key is refused, field by field
shard_00000.safetensors   x0 (n, c, h, w), tokens (all lengths, width), lengths (n,)
shard_00000.json       its rows (id, prompt, with a picture or not), size and crc32: the commit

A shard without its JSON was never finished. Nothing is rewritten in place.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewstep.errors import UserError
from fewstep.families.base import Cond
from fewstep.runs import write_atomic
from fewstep.shapes import Latent

Key = Mapping[str, Any]
"""What decides the content of a cache, as JSON values."""

CACHE = "cache.json"


@dataclass(frozen=True)
class Row:
    """One sample: its id, its prompt, and whether a picture was read beside the prompt."""

    id: str
    prompt: str
    picture: bool = False


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


def check_key(directory: Path, key: Key) -> bool:
    """Whether the directory is a cache with this key; UserError if it is one with another key."""
    path = directory / CACHE
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); delete the directory {directory}") from None
    # Through JSON, so that tuples and lists compare equal.
    if lines := difference(found, json.loads(json.dumps(key))):
        raise UserError(
            f"the samples in {directory} were made for something else ({'; '.join(lines)}); "
            "choose another directory or change the configuration back"
        )
    return True


def shard_path(directory: Path, index: int) -> Path:
    return directory / f"shard_{index:05d}.safetensors"


def write_shard(path: Path, rows: Sequence[Row], x0: Latent, cond: Cond) -> None:
    """Write a shard whole or not at all."""
    tensors = {
        "x0": x0.cpu().contiguous(),
        "tokens": torch.cat([t.cpu() for t in cond.tokens]),
        "lengths": torch.tensor([len(t) for t in cond.tokens]),
    }
    data = save(tensors)
    write_atomic(path, data)
    facts = {"size": len(data), "crc32": zlib.crc32(data), "rows": [vars(row) for row in rows]}
    write_atomic(path.with_suffix(".json"), json.dumps(facts, indent=1).encode())


def is_complete(path: Path) -> bool:
    return path.exists() and path.with_suffix(".json").exists()


class SampleCache:
    """The samples of a finished cache, read row by row from disk; see `data.batches.Samples`.

    Every shard's checksum is verified once, here: safetensors itself loads flipped bits in
    silence. UserError names a shard that is damaged or missing.
    """

    def __init__(self, directory: Path, key: Key, shards: int) -> None:
        self.directory = directory
        self.key = key
        """What decided these samples: a run that goes on must find the same."""
        self.rows: list[Row] = []
        self.lengths: list[int] = []
        self.places: list[tuple[int, int, int]] = []
        """(shard, row in it, first token in it) of each sample."""
        self.files: list[Any] = []
        for index in range(shards):
            path = shard_path(directory, index)
            rows = verified_rows(path)
            try:
                opened = safe_open(path, framework="pt")
            except SafetensorError as error:  # its sum fits: it was written by something else
                raise UserError(f"the shard {path} is damaged ({error}); {remedy(path)}") from None
            self.files.append(opened)
            lengths = opened.get_tensor("lengths").tolist()
            offsets = [0, *accumulate(lengths)]
            self.places += [(index, i, offsets[i]) for i in range(len(rows))]
            self.rows += rows
            self.lengths += lengths
        self.ids = [row.id for row in self.rows]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        x0: list[Tensor] = []
        tokens: list[Tensor] = []
        for position in rows:
            shard, row, first = self.places[position]
            x0.append(self.files[shard].get_slice("x0")[row : row + 1])
            last = first + self.lengths[position]
            tokens.append(self.files[shard].get_slice("tokens")[first:last])
        return torch.cat(x0), Cond(tuple(tokens))


def verified_rows(path: Path) -> list[Row]:
    """The rows of a shard whose bytes are what was written."""
    try:
        facts = json.loads(path.with_suffix(".json").read_bytes())
        data = path.read_bytes()
        rows = [Row(**row) for row in facts["rows"]]
        size, expected = facts["size"], facts["crc32"]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; {remedy(path)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path.with_suffix('.json')} is damaged ({error}); {remedy(path)}"
        ) from None
    if len(data) != size or zlib.crc32(data) != expected:
        why = f"{len(data)} of {size} bytes" if len(data) != size else "its crc32 differs"
        raise UserError(f"the shard {path} is damaged ({why}); {remedy(path)}")
    return rows


def remedy(path: Path) -> str:
    return f"delete {path.with_suffix('.json')} and run the same command to make it again"
