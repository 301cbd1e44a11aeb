"""What lies in a directory of samples: whether its bytes are what was written, and how much there
is. Needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep.data.cache import read_key
from fewstep.data.index import INDEX, read_index
from fewstep.data.leases import Leases
from fewstep.data.reading import Files
from fewstep.data.shards import (
    QUARANTINE,
    Shard,
    broken_rows,
    flaw,
    read_shard,
    set_aside,
    shard_path,
)
from fewstep.data.told import Told, quiet

LOOKS = 256
"""Latents whose statistics are taken."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What `verify` has found."""

    finished: int
    """Shards that are what was written."""
    missing: int
    """Shards that were never finished, or are in quarantine."""
    damaged: dict[Path, str]
    """What is wrong, with the samples it is wrong with where that can be told."""
    left: list[Path]
    """Damaged shards that are where they were: nobody asked to set them aside, or another worker
    has a lease of them."""
    index: bool
    """Whether the index is there and whole."""


def verify(directory: Path, told: Told = quiet, *, quarantine: bool = False) -> Audit:
    """Read every byte; `quarantine` sets damaged shards aside, which are then made anew by the
    command that has made them. UserError where there are no samples."""
    paths = shards_of(directory)
    finished, missing, damaged = 0, 0, dict[Path, str]()
    for n, path in enumerate(paths, 1):
        try:
            why = flaw(path, full=True)
        except FileNotFoundError:
            missing += 1
        else:
            if why is None:
                finished += 1
            else:
                damaged[path] = "; ".join([why, *which(path)])
        told("verifying shards", n, len(paths))
    left = [] if quarantine else list(damaged)
    for path, why in damaged.items() if quarantine else ():
        with Leases(directory / "leases").claim(path.stem) as ours:
            if not ours:
                left.append(path)
            elif flaw(path, full=True):  # nobody has made it anew meanwhile
                set_aside(path, why)
    return Audit(
        finished=finished, missing=missing, damaged=damaged, left=left,
        index=read_index(directory) is not None,
    )  # fmt: skip


def shards_of(directory: Path) -> list[Path]:
    key, _ = read_key(directory)
    return [shard_path(directory, i) for i in range(-(-key["prompts"] // key["shard"]))]


def which(path: Path) -> list[str]:
    """The samples of a shard that are damaged; none where its JSON is."""
    try:
        rows = broken_rows(path, read_shard(path))
    except ValueError:
        return []
    few = ", ".join(rows[:4])
    return [f"{few} and {len(rows) - 4} more" if len(rows) > 4 else few] if rows else []


def stats(directory: Path) -> list[str]:
    """Lines that say what there is; UserError where there are no samples."""
    key, _ = read_key(directory)
    paths = shards_of(directory)
    found: dict[int, Shard] = {}
    for i, path in enumerate(paths):
        try:
            found[i] = read_shard(path)
        except (FileNotFoundError, ValueError):
            continue
    done = {paths[i].stem for i in found}  # who died after the commit has left a lease
    taken = sorted({p.stem for p in (directory / "leases").glob("*.lease")} - done)
    size = sum(shard.size for shard in found.values())
    whole = read_index(directory) is not None
    lines = [
        f"{sum(len(s.rows) for s in found.values())} of {key['prompts']} samples in "
        f"{len(found)} of {len(paths)} files, {size / 1e6:.1f} MB; "
        + (f"{INDEX} is there" if whole else f"no {INDEX} yet"),
        f"model {key['model']}, {len(key['sigmas']) - 1} steps, guidance {key['guidance']:g}, "
        f"{key['size'][0]} x {key['size'][1]}, seed {key['seed']}",
    ]
    if taken:
        lines.append(f"being made: {', '.join(taken)}")
    if aside := len(list((directory / QUARANTINE).glob("*.why"))):
        lines.append(f"{aside} damaged files are in {directory / QUARANTINE}")
    for left_out in (r for shard in found.values() for r in shard.rejected):
        lines.append(f"left out: {left_out.id} {left_out.prompt!r}: {left_out.why}")
    return lines + (described(directory, found) if found else [])


def described(directory: Path, found: dict[int, Shard]) -> list[str]:
    """Of the samples that are there: tokens, pictures, and the latents' statistics."""
    stored = [row for shard in found.values() for row in shard.rows]
    lengths = np.array([row.length for row in stored])
    beside = sum(row.row.picture for row in stored)
    lines = [
        f"tokens of a prompt: {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}",
        *([f"read beside a picture: {beside}"] if beside else []),
    ]
    if not (latents := some_latents(directory, found)):
        return lines
    x0 = torch.stack(latents).double()
    mean, std = x0.mean((0, 2, 3)), x0.std((0, 2, 3))
    return [
        *lines,
        f"latents {'x'.join(str(n) for n in x0.shape[1:])}, of {len(x0)}: mean by channel "
        f"{numbers(mean)}, standard deviation {numbers(std)}",
    ]


def some_latents(directory: Path, found: dict[int, Shard]) -> list[Tensor]:
    """Each (c, h, w): up to `LOOKS`, evenly over all that can be read; `verify` tells of others."""
    places = [(i, row) for i, shard in found.items() for row in shard.rows]
    chosen = np.linspace(0, len(places) - 1, min(LOOKS, len(places))).astype(int)
    latents: list[Tensor] = []
    with Files(directory) as files:
        for i, row in (places[n] for n in chosen):
            try:
                data = bytearray(files.read(i, row.x0))
            except OSError:
                continue
            if len(data) == row.x0.end - row.x0.begin:
                latents.append(torch.frombuffer(data, dtype=torch.float32).view(found[i].shape))
    return latents


def numbers(values: Tensor | Sequence[float]) -> str:
    """The first eight of them."""
    few = " ".join(f"{float(v):.3g}" for v in values[:8])
    return few if len(values) <= 8 else f"{few} ..."
