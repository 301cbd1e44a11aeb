"""Prompt files as rows: txt, JSONL, CSV, TSV and Parquet. A bad row is told and left out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fewstep.errors import UserError

FIELDS = ("prompt", "caption", "text")
"""Where a prompt is looked for if no field is named."""
AT_ONCE = 65536
"""Rows of a Parquet file in memory at a time."""


@dataclass(frozen=True)
class Row:
    """A prompt as it stands in a file; lines are counted from 1."""

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

    field  the column or key that holds the prompt; None takes the first of `FIELDS` that is there

    UserError for a file that cannot be read at all, has no known ending or no such field.
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
        except (OSError, pa.ArrowInvalid, csv.Error) as error:
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
        except ValueError:
            yield Bad(path.name, line, "is no JSON")
            continue
        if isinstance(found, Mapping):
            field = field or field_of(path, list(found))
            found = found.get(field)
        yield checked(found, path, line, field)


def read_csv(path: Path, field: str | None) -> Iterator[Found]:
    """A table with a head; cells may hold line breaks."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    field = field_of(path, list(rows.fieldnames or []), field)
    for row in rows:
        yield checked(row[field], path, rows.line_num, field)


def read_parquet(path: Path, field: str | None) -> Iterator[Found]:
    with pq.ParquetFile(path) as file:
        field = field_of(path, file.schema_arrow.names, field)
        line = 0
        for batch in file.iter_batches(AT_ONCE, columns=[field]):
            for value in batch.column(0).to_pylist():
                line += 1
                yield checked(value, path, line, field)


READERS: Mapping[str, Callable[[Path, str | None], Iterator[Found]]] = {
    ".txt": read_lines, ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv,
    ".tsv": read_csv, ".parquet": read_parquet,
}  # fmt: skip


def decoded(path: Path) -> Iterator[tuple[int, str | Bad]]:
    """The lines of a UTF-8 file with their numbers; a byte-order mark is no part of the first."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line, raw.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                yield line, Bad(path.name, line, "is not UTF-8")


def field_of(path: Path, names: Sequence[str], wanted: str | None = None) -> str:
    """Where the prompts are; UserError if that is nowhere."""
    for name in FIELDS if wanted is None else (wanted,):
        if name in names:
            return name
    looked = f"no field {wanted!r}" if wanted else f"none of the fields {', '.join(FIELDS)}"
    raise UserError(f"{path} has {looked}, but {', '.join(names) or 'none'}; name one with --field")


def checked(value: object, path: Path, line: int, field: str | None) -> Found:
    """The row, if what stands there is text."""
    if value is None:
        return Bad(path.name, line, f"has no {field or 'prompt'}")
    if not isinstance(value, str):
        return Bad(path.name, line, f"holds {type(value).__name__} where text is wanted")
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that were no UTF-8, or half of a pair in JSON
        return Bad(path.name, line, "is not UTF-8")
    if not value.strip():
        return Bad(path.name, line, "is empty")
    return Row(value, path.name, line)
