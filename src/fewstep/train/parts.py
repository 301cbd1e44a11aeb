"""The tensors of a checkpoint's module or optimizer, whole in one file or in parts in several.

module.<name>.safetensors               written by one process
module.<name>.<rank>-of-<count>.safetensors     written by each of several, of what it holds

A part says in its header where in the whole each of its tensors begins, as torch's own
`HuggingFaceStorageWriter` does, so that `HuggingFaceStorageReader` reads it too. What is whole on
every process is in the first one's part. Any number of processes reads what any number has written:
each cuts out what it holds itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep.nets.shard import held, is_sharded

HEADER, OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"
FILE = re.compile(r"(module|optim)\.(.+?)(\.\d+-of-\d+)?\.safetensors")


def files_by_name(folder: Path, kind: str) -> dict[str, list[Path]]:
    """The files of each module or optimizer ("module", "optim")."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"{kind}.*.safetensors")):
        if match := FILE.fullmatch(path.name):
            found.setdefault(match[2], []).append(path)
    return found


@dataclass(frozen=True, kw_only=True)
class Held:
    """Copies, in main memory, of what this process holds: training goes on while they are written.

    Where a tensor is whole everywhere, the first process alone has it.
    """

    tensors: Mapping[str, Tensor]
    offsets: Mapping[str, tuple[int, ...]]
    """Empty where all are whole."""

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, first: bool, whole: bool = False) -> Held:
        pieces = {name: held(t) for name, t in tensors.items() if first or is_sharded(t)}
        pieces = {name: piece for name, piece in pieces.items() if piece[0].numel()}
        return cls(
            tensors={name: t.to("cpu", copy=True).contiguous() for name, (t, _) in pieces.items()},
            offsets={} if whole else {name: offset for name, (_, offset) in pieces.items()},
        )

    def write(self, path: Path) -> None:
        places = {name: {OFFSETS: list(offset)} for name, offset in sorted(self.offsets.items())}
        header = {HEADER: json.dumps(places)} if places else {}
        save_file(dict(self.tensors), path, {"format": "pt", **header})


@dataclass(frozen=True)
class Piece:
    """A tensor in one of the files: a box of the whole."""

    file: Any
    begin: tuple[int, ...]
    shape: tuple[int, ...]

    def cut(self, name: str, begin: Sequence[int], end: Sequence[int]) -> Tensor:
        """What of the whole lies from `begin` to `end`, which must be inside."""
        if not self.shape:
            return self.file.get_tensor(name)
        where = zip(begin, end, self.begin, strict=True)
        return self.file.get_slice(name)[tuple(slice(b - o, e - o) for b, e, o in where)]


class Stored:
    """What lies in the files of one module or optimizer. Nothing is read before it is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.pieces: dict[str, list[Piece]] = {}
        for path in files:
            file = safe_open(path, "pt")
            places = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            names: list[str] = file.keys()
            for name in names:
                shape = tuple(file.get_slice(name).get_shape())
                begin = tuple(places[name][OFFSETS]) if places else (0,) * len(shape)
                self.pieces.setdefault(name, []).append(Piece(file, begin, shape))

    def names(self) -> Set[str]:
        return self.pieces.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        ends = [[b + n for b, n in zip(p.begin, p.shape, strict=True)] for p in self.pieces[name]]
        return tuple(max(axis) for axis in zip(*ends, strict=True))

    @torch.no_grad()
    def fill(self, name: str, target: Tensor) -> None:
        """Write what `target` holds here of the tensor. ValueError where it has another shape or
        where the files do not hold all of it."""
        if (shape := self.shape(name)) != tuple(target.shape):
            raise ValueError(
                f"the tensor {name!r} has the shape {tuple(target.shape)} here and {shape} in the "
                "checkpoint"
            )
        here, first = held(target)
        last = [f + n for f, n in zip(first, here.shape, strict=True)]
        found = 0
        for piece in self.pieces[name]:
            begin = [max(f, b) for f, b in zip(first, piece.begin, strict=True)]
            ends = zip(last, piece.begin, piece.shape, strict=True)
            end = [min(e, b + n) for e, b, n in ends]
            if any(b >= e for b, e in zip(begin, end, strict=True)):
                continue
            at = zip(begin, end, first, strict=True)
            box = here[tuple(slice(b - f, e - f) for b, e, f in at)]
            box.copy_(piece.cut(name, begin, end))
            found += box.numel()
        if found != here.numel():
            raise ValueError(f"the tensor {name!r} is not whole in the checkpoint")
