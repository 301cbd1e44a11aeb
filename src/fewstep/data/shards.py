"""A shard: some samples in one safetensors file, and beside it what it must hold.

shard_00012.safetensors   x0 (n, c, h, w), tokens (all lengths, width) unless texts are read live
shard_00012.json          the commit: size and crc32 of the file and of its header; each row with
                          its byte ranges and their crc32; what was left out; a crc32 of all that

A shard without its JSON was never finished. safetensors loads flipped bits and zeros in silence, so
every read is checked (`data.cache`). Nothing is rewritten in place.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from safetensors.torch import save

from fewstep.data.publish import publish, sealed, unsealed
from fewstep.errors import UserError
from fewstep.families.base import Cond
from fewstep.runs import write_atomic
from fewstep.shapes import Latent

QUARANTINE = "quarantine"
CHUNK = 1 << 22
HEADER = 8
"""Bytes before the header of a safetensors file, which say how long it is."""


@dataclass(frozen=True)
class Row:
    """One sample: its id, its prompt, and whether a picture was read beside the prompt."""

    id: str
    prompt: str
    picture: bool = False


@dataclass(frozen=True)
class Span:
    """Bytes of a file, and their crc32."""

    begin: int
    end: int
    crc32: int


@dataclass(frozen=True)
class Stored:
    """A row of a shard, and where it lies in the file."""

    row: Row
    length: int
    """Tokens of its condition."""
    x0: Span
    tokens: Span | None
    """None where texts are read live."""


@dataclass(frozen=True)
class Rejected:
    """A sample that was left out."""

    id: str
    prompt: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What a file must hold."""

    size: int
    crc32: int
    header: Span
    shape: tuple[int, ...]
    """Of a latent."""
    width: int
    """Of a token."""
    tokens_dtype: str
    """Latents are float32; conditions are as the model made them."""
    rows: tuple[Stored, ...]
    rejected: tuple[Rejected, ...] = ()


def shard_path(directory: Path, index: int) -> Path:
    return directory / f"shard_{index:05d}.safetensors"


def pack(
    rows: Sequence[Row], x0: Latent, cond: Cond, *, texts: bool, rejected: Sequence[Rejected] = ()
) -> tuple[bytes, Shard]:
    """The file's bytes and what says so; `texts` keeps the conditions too."""
    tensors = {"x0": x0.cpu().float().contiguous()}
    lengths = [len(t) for t in cond.tokens]
    tokens = torch.cat([t.cpu() for t in cond.tokens])
    if texts:
        tensors["tokens"] = tokens
    data = save(tensors)
    start = HEADER + int.from_bytes(data[:HEADER], "little")
    begins = {name: start + own["data_offsets"][0]
              for name, own in json.loads(data[HEADER:start]).items()}  # fmt: skip

    def spans(name: str, sizes: Sequence[int]) -> list[Span]:
        edges = list(accumulate(sizes, initial=begins[name]))
        return [span(data, a, b) for a, b in pairwise(edges)]

    latents = spans("x0", [tensors["x0"][0].nbytes] * len(rows))
    read: list[Span] | list[None] = [None] * len(rows)
    if texts:
        read = spans("tokens", [n * tokens[0].nbytes for n in lengths])
    stored = [Stored(*each) for each in zip(rows, lengths, latents, read, strict=True)]
    return data, Shard(
        size=len(data), crc32=zlib.crc32(data), header=span(data, 0, start),
        shape=tuple(x0.shape[1:]), width=tokens.shape[1],
        tokens_dtype=str(tokens.dtype).removeprefix("torch."), rows=tuple(stored),
        rejected=tuple(rejected),
    )  # fmt: skip


def span(data: bytes, begin: int, end: int) -> Span:
    return Span(begin, end, zlib.crc32(memoryview(data)[begin:end]))


def commit(path: Path, data: bytes, shard: Shard) -> bool:
    """Publish the shard and then its JSON; whether we were the first. UserError where another
    worker has made something else of the same unit."""
    own = sealed(asdict(shard))
    publish(path, data)
    if publish(path.with_suffix(".json"), own):
        return True
    if path.with_suffix(".json").read_bytes() != own:
        raise UserError(
            f"another worker has drawn {path.name} differently in {path.parent}: let workers of "
            "one kind of machine and one version of the libraries share a folder"
        )
    return False


def read_shard(path: Path) -> Shard:
    """What the JSON beside a shard says; FileNotFoundError, and ValueError for a damaged one."""
    facts = unsealed(path.with_suffix(".json").read_bytes())
    try:
        rows = tuple(
            Stored(Row(**r["row"]), r["length"], Span(**r["x0"]),
                   None if r["tokens"] is None else Span(**r["tokens"]))
            for r in facts["rows"]
        )  # fmt: skip
        rejected = tuple(Rejected(**r) for r in facts["rejected"])
        header, shape = Span(**facts["header"]), tuple(facts["shape"])
        return Shard(**facts | {"rows": rows, "rejected": rejected, "header": header,
                                "shape": shape})  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is of another version ({error})") from None


def flaw(path: Path, *, full: bool) -> str | None:
    """What is wrong with a finished shard; None if nothing is. Without `full` its JSON, its size
    and its header are looked at. FileNotFoundError where it was never finished."""
    try:
        shard = read_shard(path)
    except ValueError as error:
        return f"{path.with_suffix('.json').name}: {error}"
    why = broken(path, shard.size, shard.header, shard.crc32 if full else None)
    if full and why is None and broken_rows(path, shard):
        return "it does not hold the rows that its JSON lists"
    return why


def broken(path: Path, size: int, header: Span, crc32: int | None) -> str | None:
    """The same of a file whose size, header and, unless it is None, crc32 are known."""
    try:
        with path.open("rb") as file:
            if (found := os.fstat(file.fileno()).st_size) != size:
                return f"{found} of {size} bytes"
            if zlib.crc32(file.read(header.end)) != header.crc32:
                return "the crc32 of its header differs"
            if crc32 is not None:
                file.seek(0)
                value = 0
                while chunk := file.read(CHUNK):
                    value = zlib.crc32(chunk, value)
                if value != crc32:
                    return "its crc32 differs"
    except FileNotFoundError:
        return "it is missing"
    return None


def broken_rows(path: Path, shard: Shard) -> list[str]:
    """Each sample whose bytes are not what was written, with where they lie."""
    found: list[str] = []
    data = path.read_bytes() if path.exists() else b""
    for stored in shard.rows:
        for name, own in (("x0", stored.x0), ("tokens", stored.tokens)):
            if own is not None and span(data, own.begin, own.end) != own:
                found.append(f"{stored.row.id} ({name}, bytes {own.begin} to {own.end})")
    return found


def set_aside(path: Path, why: str) -> None:
    """Move a damaged shard and its JSON into the quarantine, and write down why."""
    folder = path.parent / QUARANTINE
    folder.mkdir(exist_ok=True)
    n = len(list(folder.glob(f"{path.stem}.*.why"))) + 1
    write_atomic(folder / f"{path.stem}.{n}.why", why.encode() + b"\n")
    for file in (path.with_suffix(".json"), path):  # without its JSON it is unfinished
        with suppress(FileNotFoundError):
            file.rename(folder / f"{path.stem}.{n}{file.suffix}")
