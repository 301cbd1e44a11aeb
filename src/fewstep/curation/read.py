"""Prompt files as rows: txt, JSONL, CSV, TSV and Parquet. A bad row is told and left out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fewstep.errors import UserError

FIELDS = ("prompt", "caption", "text")
"""Where a prompt is looked for if no field is named."""
AT_ONCE = 65536
"""Rows of a Parquet file in memory at a time."""


@dataclass(frozen=True)
class Row:
    """A prompt as it stands in a file; lines (of a table: rows) are counted from 1."""

    text: str
    source: str
    line: int


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used."""

    source: str
    line: int
    why: str


Found = Row | Bad


def read(paths: Sequence[Path], field: str | None = None) -> Iterator[Found]:
    """Every row of the files, one file after the other.

    field  the column or key that holds the prompt; None takes the first of `FIELDS` that is there,
           in any case

    UserError for a file that cannot be read at all, has no known ending or no such column.
    """
    for path in paths:
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise UserError(
                f"{path} ends in {path.suffix or 'nothing'}; prompts are read from files that end "
                f"in {', '.join(READERS)}"
            )
        try:
            yield from reader(path, field)
        except (OSError, pa.ArrowException, csv.Error) as error:
            raise UserError(f"the prompts {path} cannot be read: {error}") from None


def read_lines(path: Path, field: str | None) -> Iterator[Found]:
    """A prompt on each line; empty ones are nothing."""
    for line, text in decoded(path):
        if isinstance(text, Bad):
            yield text
        elif text.strip():
            yield Row(text, path.name, line)


def read_jsonl(path: Path, field: str | None) -> Iterator[Found]:
    """An object on each line, or a bare string."""
    for line, text in decoded(path):
        if isinstance(text, Bad):
            yield text
            continue
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            yield Bad(path.name, line, "is no JSON")
            continue
        name = field
        if isinstance(found, Mapping):
            name = known(list(found), field)
            found = None if name is None else found[name]
        yield checked(found, path, line, name or field)


def read_csv(path: Path, field: str | None) -> Iterator[Found]:
    """A table with a head. Cells of a CSV may be quoted and then hold line breaks; in a TSV a quote
    is a letter like any other."""
    tabs = path.suffix.lower() == ".tsv"
    text = whole(path).decode("utf-8", "surrogateescape")
    how: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, **how)
    field = column(path, list(rows.fieldnames or []), field)
    for row in rows:
        if None in row:
            yield Bad(path.name, rows.line_num, "has more cells than the head")
        else:
            yield checked(row[field], path, rows.line_num, field)


def read_parquet(path: Path, field: str | None) -> Iterator[Found]:
    with pq.ParquetFile(path) as file:
        field = column(path, file.schema_arrow.names, field)
        line = 0
        for batch in file.iter_batches(AT_ONCE, columns=[field]):
            for value in values(batch.column(0)):
                line += 1
                yield checked(value, path, line, field)


def values(cells: pa.Array) -> list[object]:
    """Of a column; text comes as bytes, for it may be no UTF-8."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_string(cells.type):
        cells = cells.cast(pa.binary())
    elif pa.types.is_large_string(cells.type):
        cells = cells.cast(pa.large_binary())
    return cells.to_pylist()


READERS: Mapping[str, Callable[[Path, str | None], Iterator[Found]]] = {
    ".txt": read_lines, ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv,
    ".tsv": read_csv, ".parquet": read_parquet,
}  # fmt: skip


def whole(path: Path) -> bytes:
    """The bytes of a text file without a byte-order mark; UserError where it is no UTF-8 at all."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in data[:4096]:
        raise UserError(f"{path} is UTF-16 or no text; save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")


def decoded(path: Path) -> Iterator[tuple[int, str | Bad]]:
    """The lines of a UTF-8 file with their numbers, whatever ends them."""
    for line, raw in enumerate(whole(path).splitlines(), 1):
        try:
            yield line, raw.decode()
        except UnicodeDecodeError:
            yield line, Bad(path.name, line, "is not UTF-8")


def known(names: Sequence[str], wanted: str | None) -> str | None:
    """The name that holds the prompt, if it is there."""
    if wanted is not None:
        return wanted if wanted in names else None
    by_case = {name.lower(): name for name in reversed(names)}
    return next((by_case[name] for name in FIELDS if name in by_case), None)


def column(path: Path, names: Sequence[str], wanted: str | None) -> str:
    """The same; UserError if it is not."""
    if (found := known(names, wanted)) is not None:
        return found
    looked = f"no column {wanted!r}" if wanted else f"none of the columns {', '.join(FIELDS)}"
    raise UserError(
        f"{path} has {looked}, but {', '.join(names) or 'none'}; name one with --field (or "
        "--against-field)"
    )


def checked(value: object, path: Path, line: int, field: str | None) -> Found:
    """The row, if what stands there is text."""
    if value is None:
        return Bad(path.name, line, f"has no {field or ' or '.join(FIELDS)}")
    try:
        if isinstance(value, bytes):
            value = value.decode()
        if not isinstance(value, str):
            return Bad(path.name, line, f"holds {type(value).__name__} where text is wanted")
        value.encode()
    except UnicodeError:  # or half of a pair in JSON, or a byte of a CSV
        return Bad(path.name, line, "is not UTF-8")
    if not value.strip():
        return Bad(path.name, line, "is empty")
    return Row(value, path.name, line)
