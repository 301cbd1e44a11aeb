"""Rows of shards, read at their byte ranges."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np

from fewstep.data.index import Index
from fewstep.data.shards import Span, shard_path

OPEN = 128
"""Files that are held open."""


class Files:
    """Shards that are open for reading at any place; forks may share them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.handles: OrderedDict[int, int] = OrderedDict()

    def read(self, shard: int, at: Span) -> bytes:
        """Fewer bytes where the file ends before."""
        if shard not in self.handles:
            if len(self.handles) >= OPEN:
                os.close(self.handles.popitem(last=False)[1])
            self.handles[shard] = os.open(shard_path(self.directory, shard), os.O_RDONLY)
        self.handles.move_to_end(shard)
        return os.pread(self.handles[shard], at.end - at.begin, at.begin)

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        while self.handles:
            os.close(self.handles.popitem()[1])


class Spans:
    """Where the samples of an index lie, in arrays: a table of objects would be slow."""

    def __init__(self, index: Index) -> None:
        def column(name: str) -> np.ndarray:
            return index.table[name].to_numpy()

        self.shards = column("shard")
        kept = index.table["tokens_begin"].null_count == 0
        self.parts = [
            tuple(column(f"{name}_{part}") for part in ("begin", "end", "crc32"))
            for name in (("x0", "tokens") if kept else ("x0",))
        ]

    def of(self, position: int) -> list[tuple[int, Span]]:
        """(shard, span) of the latent and, where it is kept, of the condition."""
        shard = int(self.shards[position])
        return [
            (shard, Span(int(begin[position]), int(end[position]), int(crc[position])))
            for begin, end, crc in self.parts
        ]
