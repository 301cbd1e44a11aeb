"""Claims are data: every figure that the project states about itself is a record.

The command that measures a figure writes the record to `results/<area>.json`; the tables in the
README and the docs are made from the records, between these markers, and never by hand:

    <!-- claims:AREA -->
    <!-- /claims -->

`python -m fewstep.claims --readme README.md docs/*.md` rewrites the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from fewstep.runs import write_atomic

RESULTS = Path("results")

BLOCK = re.compile(r"(<!-- claims:([a-z0-9_]+) -->\n).*?(<!-- /claims -->)", re.DOTALL)

NUMBER = r"-?\d*\.?\d+"
GOAL = re.compile(rf"(>=|<=) ({NUMBER})|({NUMBER}) to ({NUMBER})")


def verdict(value: float | None, goal: str) -> bool | None:
    """Whether the value meets the goal; None without a value or a goal.

    A goal is written ">= 0.8", "<= 10", "0.9 to 1.1" or "" (none); anything else is a ValueError.
    """
    if goal == "":
        return None
    if not (found := GOAL.fullmatch(goal)):
        raise ValueError(f'goal must read ">= 0.8", "<= 10", "0.9 to 1.1" or "", got {goal!r}')
    if value is None:
        return None
    relation, bound, least, most = found.groups()
    if relation is None:
        return float(least) <= value <= float(most)
    return value >= float(bound) if relation == ">=" else value <= float(bound)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One measured figure. Raises ValueError when its parts contradict each other."""

    id: str
    """`area.name`."""
    claim: str
    """What the figure is, in one line."""
    value: float | None
    """None if it could not be measured; `note` then says why."""
    low: float | None
    high: float | None
    """[low, high]: the 95 % interval."""
    n: int | None
    """What was repeated, for example training seeds; `claim` or `note` says what that is."""
    unit: str
    goal: str
    """See `verdict`."""
    met: bool | None
    """`verdict(value, goal)`; a goal that was missed is stated like any other."""
    command: str
    """The command that measures it again."""
    hardware: str
    versions: Mapping[str, str]
    date: str
    """ISO date of the measurement."""
    note: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", self.id):
            raise ValueError(f"id of a claim must read area.name, got {self.id!r}")
        if self.value is None and not self.note:
            raise ValueError(f"{self.id} has no value, so its note must say why")
        stated = [x for x in (self.low, self.value, self.high) if x is not None]
        if not all(math.isfinite(x) for x in stated):
            raise ValueError(
                f"{self.id} must hold finite numbers, got {stated}; write None instead"
            )
        if any(a > b and not math.isclose(a, b) for a, b in pairwise(stated)):
            raise ValueError(
                f"{self.id} has the value {self.value} outside its interval "
                f"[{self.low}, {self.high}]; check which is wrong"
            )
        if self.met != verdict(self.value, self.goal):
            raise ValueError(
                f"{self.id} says met = {self.met}, but its value {self.value} against the goal "
                f"{self.goal!r} is {verdict(self.value, self.goal)}; set met = verdict(value, goal)"
            )

    @property
    def area(self) -> str:
        return self.id.partition(".")[0]


def read(path: Path) -> list[Claim]:
    """The records of one `<area>.json`, sorted by id."""
    try:
        records = json.loads(path.read_text())
        claims = [Claim(**record) for record in records]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a list of claim records: {error}") from error
    if stray := [c.id for c in claims if c.area != path.stem]:
        raise ValueError(f"{path} holds {stray[0]!r}, which belongs into another area's file")
    return sorted(claims, key=lambda c: c.id)


def write(claims: Iterable[Claim], area: str, results: Path = RESULTS) -> Path:
    """Merge records into `results/<area>.json`: by id, sorted, whole or not at all."""
    path = results / f"{area}.json"
    merged = {c.id: c for c in read(path)} if path.exists() else {}
    for claim in claims:
        if claim.area != area:
            raise ValueError(f"{claim.id!r} does not belong to the area {area!r}")
        merged[claim.id] = claim
    results.mkdir(parents=True, exist_ok=True)
    records = [asdict(merged[key]) for key in sorted(merged)]
    text = json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode() + b"\n")
    return path


def number(x: float) -> str:
    """Four significant digits, without an exponent in the usual range."""
    return f"{x:.4g}" if abs(x) < 1e4 else f"{x:,.0f}"


def table(claims: Iterable[Claim]) -> str:
    """A markdown table, one row a claim, in order of id."""
    lines = [
        "| Claim | Measured | 95 % interval | n | Goal | Met | Id |",
        "|---|---|---|---|---|---|---|",
    ]
    met = {True: "yes", False: "**no**", None: ""}
    for c in sorted(claims, key=lambda c: c.id):
        value = f"not measured: {c.note}" if c.value is None else f"{number(c.value)} {c.unit}"
        sides = ["?" if x is None else number(x) for x in (c.low, c.high)]
        interval = "" if sides == ["?", "?"] else f"{sides[0]} to {sides[1]}"
        n = "" if c.n is None else str(c.n)
        cells = [c.claim, value.strip(), interval, n, c.goal, met[c.met], f"`{c.id}`"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def rewrite(text: str, results: Path = RESULTS) -> str:
    """The text with every claims block made anew from the records."""

    def block(found: re.Match[str]) -> str:
        start, area, end = found.groups()
        path = results / f"{area}.json"
        if not path.exists():
            raise ValueError(f"there is a block claims:{area}, but no {path}; measure it first")
        return f"{start}{table(read(path))}\n{end}"

    if text.count("<!-- claims:") != len(BLOCK.findall(text)):
        raise ValueError(
            "a claims block is not closed: each <!-- claims:AREA --> stands on its own line "
            "and needs a <!-- /claims -->"
        )
    return BLOCK.sub(block, text)


def areas(text: str) -> set[str]:
    """The areas whose blocks stand in the text."""
    return {area for _, area, _ in BLOCK.findall(text)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fewstep.claims", description="Rewrite tables.")
    parser.add_argument("--readme", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    try:
        for path in args.readme:
            old = path.read_text()
            new = rewrite(old, args.results)
            if new != old:
                write_atomic(path, new.encode())
            print(f"{path}: {'rewritten' if new != old else 'up to date'}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
