"""Rows of a run as lines of JSON, in a file that only grows and is whole after any mishap."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Value = float | int | str | bool | Sequence[float]
"""A logged scalar, or a short vector (for example one value for each head)."""

# JSON has no infinities and no NaN, and a run that diverged must still be readable everywhere.
SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(row: Mapping[str, Any]) -> bytes:
    return json.dumps(_plain(row), allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {key: _plain(v) for key, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case _:
            return value


def decode(line: bytes) -> dict[str, Any]:
    """ValueError, KeyError or TypeError where the line is not a row with a step."""

    def special(value: Any) -> Any:
        if isinstance(value, list):
            return [special(v) for v in value]
        return SPECIAL.get(value, value) if isinstance(value, str) else value

    row = json.loads(line)
    return {"step": int(row["step"])} | {k: special(v) for k, v in row.items()}


def lines(path: Path) -> list[bytes]:
    """The complete ones, oldest first; none where there is no file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def open_to_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def append(file: int, line: bytes) -> None:
    """Write the line whole; on an OSError (a full disk) the part that was written is taken back."""
    before = os.fstat(file).st_size
    try:
        rest = line
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, before)
        raise


def repair(path: Path) -> None:
    """Cut a half-written last line off, or the next row would be joined to it."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        complete = file.read().rfind(b"\n") + 1
        file.truncate(complete)


def no_nan(value: Any) -> Any:
    """With null in place of numbers that JSON does not have: a broken student has such scores."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: no_nan(own) for key, own in value.items()}
        case list() | tuple():
            return [no_nan(own) for own in value]
        case _:
            return value
