"""All rows that were read, by column, with what became of each of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fewstep.runs import replacing

KEY, TOOK = b"fewstep", b"fewstep took"
"""Of a Parquet file's metadata: what decides its contents, and what making it took."""
RESERVED = ("id", "text", "source", "line", "why", "of", "likeness", "split")
"""Columns that no axis may be called like."""


@dataclass
class Book:
    """Row i is texts[i]; a row whose `why` is None is kept."""

    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Normalised; "" where the row cannot be read."""
    sources: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    why: list[str | None] = field(default_factory=list)
    """Why a row is left out: a reason of `pipeline`, and after a colon what more is known."""
    of: list[str | None] = field(default_factory=list)
    """The text that a row repeats or gives away."""
    likeness: list[float | None] = field(default_factory=list)
    """To that text."""
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    """By axis; None where nobody has looked."""
    sure: dict[str, list[float | None]] = field(default_factory=dict)
    by: dict[str, list[str | None]] = field(default_factory=dict)
    splits: list[str | None] = field(default_factory=list)

    def add(self, name: str, text: str, source: str, line: int, why: str | None = None) -> None:
        self.ids.append(name)
        self.texts.append(text)
        self.sources.append(source)
        self.lines.append(line)
        self.why.append(why)
        self.of.append(None)
        self.likeness.append(None)
        self.splits.append(None)
        for columns in (self.labels, self.sure, self.by):
            for column in columns.values():
                column.append(None)

    def drop(
        self, i: int, why: str, of: str | None = None, likeness: float | None = None
    ) -> None:  # fmt: skip
        self.why[i], self.of[i], self.likeness[i] = why, of, likeness

    def __len__(self) -> int:
        return len(self.ids)

    def kept(self) -> list[int]:
        return [i for i, why in enumerate(self.why) if why is None]

    def counts(self) -> Counter[str]:
        """Rows by what became of them."""
        return Counter("kept" if why is None else why.split(":")[0] for why in self.why)

    def table(self) -> pa.Table:
        columns: dict[str, Any] = {
            "id": self.ids, "text": self.texts,
            "source": pa.array(self.sources, pa.string()).dictionary_encode(),
            "line": pa.array(self.lines, pa.int32()), "why": pa.array(self.why, pa.string()),
            "of": pa.array(self.of, pa.string()),
            "likeness": pa.array(self.likeness, pa.float32()),
            "split": pa.array(self.splits, pa.string()),
        }  # fmt: skip
        for axis in self.labels:
            columns[axis] = pa.array(self.labels[axis], pa.string())
            columns[f"{axis}_sure"] = pa.array(self.sure[axis], pa.float32())
            columns[f"{axis}_by"] = pa.array(self.by[axis], pa.string())
        return pa.table(columns)

    @classmethod
    def of_table(cls, table: pa.Table) -> Book:
        found = {name: table.column(name).to_pylist() for name in table.column_names}
        axes = [name.removesuffix("_by") for name in found if name.endswith("_by")]
        return cls(
            ids=found["id"], texts=found["text"], sources=found["source"], lines=found["line"],
            why=found["why"], of=found["of"], likeness=found["likeness"], splits=found["split"],
            labels={axis: found[axis] for axis in axes},
            sure={axis: found[f"{axis}_sure"] for axis in axes},
            by={axis: found[f"{axis}_by"] for axis in axes},
        )  # fmt: skip


def write_table(
    path: Path, table: pa.Table, key: Mapping[str, Any] | None = None,
    took: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Whole or not at all; `key` is what decides its contents, `took` what it has cost."""
    facts = {KEY: key, TOOK: took}
    known = {name: json.dumps(of, sort_keys=True) for name, of in facts.items() if of is not None}
    if known:
        table = table.replace_schema_metadata(known)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def took_of(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What making the table took, if it is there, whole, and decided by this very key."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    if metadata.get(KEY) != json.dumps(key, sort_keys=True).encode():
        return None
    return json.loads(metadata[TOOK])


def read_table(path: Path, key: Mapping[str, Any]) -> pa.Table | None:
    """The table itself, on the same terms."""
    if took_of(path, key) is None:
        return None
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
