"""JSON that knows where it stands: a value of the wrong type is named by its place in the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.runs import RunError


class WrongShape(Exception):
    """A value that is missing or of another type; the message says where and what it should be."""


@dataclass(frozen=True)
class Node:
    """A value and its place, as in `rows[0].metrics.kid`. Its readers raise WrongShape."""

    value: Any
    place: str = ""

    def wrong(self, wanted: str) -> WrongShape:
        return WrongShape(f"{self.place or 'the file'} must be {wanted}, got {self.value!r:.60}")

    def at(self, key: str) -> Node:
        """The value of a key, which must be there."""
        record = self.mapping()
        place = f"{self.place}.{key}" if self.place else key
        if key not in record:
            raise WrongShape(f"{place} is missing")
        return Node(record[key], place)

    def maybe(self, key: str) -> Node | None:
        """The value of a key, None where it is absent or null."""
        return None if self.mapping().get(key) is None else self.at(key)

    def mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def items(self) -> list[tuple[str, Node]]:
        return [(key, self.at(key)) for key in self.mapping()]

    def entries(self) -> list[Node]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Node(value, f"{self.place}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def number(self) -> float:
        """A finite number; true and false are none."""
        known = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if not known or not math.isfinite(self.value):
            raise self.wrong("a number")
        return float(self.value)

    def number_or_nan(self) -> float:
        """A number, NaN for null."""
        return math.nan if self.value is None else self.number()

    def count(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.wrong("a whole number")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def one_of(self, known: tuple[str, ...]) -> str:
        if self.value not in known:
            raise self.wrong(f"one of {', '.join(map(repr, known))}")
        return self.value


def read_rows(path: Path) -> list[Node]:
    """The lines of a file, none if there is no file; WrongShape for one that is no JSON."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        return [Node(json.loads(line), f"line {i} of {path}") for i, line in enumerate(lines, 1)]
    except ValueError as error:
        raise WrongShape(f"{path}, which belongs to it, is not JSON lines ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, empty if there is no file; RunError where it holds something else."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not JSON: {error}; write it anew") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} must hold a JSON object, got {type(found).__name__}; write it anew")
    return found
