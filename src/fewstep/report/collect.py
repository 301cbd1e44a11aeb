"""Reads a run directory; everything that a report shows comes from here.

config.yaml        shown as it is
env.json           versions, processor, commit; `command` (text or list of texts) is shown as typed
metrics.jsonl      rows with `step`; numbers become curves, short lists one curve for each entry;
                   a text `phase` is put before the names of its row: `heads/loss`
samples/*.png      strips in the order of their names: `step_000000.png`, `step_000200.png`, ...
evaluation.json    as `fewstep.evaluate.suite` documents it; names the grids

Every file may be missing, but not all of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.runs import RunError, read_metrics

Array = NDArray[np.float64]

ASIDE = ("command", "commands", "samples")
"""Of env.json: shown elsewhere, or nowhere."""


@dataclass(frozen=True)
class Number:
    """An estimate as read back; NaN where the file says null."""

    value: float
    low: float
    high: float
    n_prompts: int
    n_seeds: int
    n_runs: int

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Row:
    """A model in the table; `spec` is empty for the truth."""

    name: str
    role: str
    spec: Mapping[str, Any]
    metrics: Mapping[str, Number]


@dataclass(frozen=True)
class Comparison:
    name: str
    metric: str
    goal: float | None
    number: Number


@dataclass(frozen=True)
class Picture:
    path: Path
    caption: str


@dataclass(frozen=True)
class Curve:
    """steps (n,), values (n, k): k lines, one for each entry of a logged list."""

    steps: Array
    values: Array


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is known of a run."""

    name: str
    question: str
    world: str
    config: str
    env: Mapping[str, Any]
    commands: Sequence[str]
    curves: Mapping[str, Curve]
    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    grids: Sequence[Picture]
    samples: Sequence[Picture]
    seconds: float | None
    """Wall time from the first logged row to the last."""

    def with_role(self, role: str) -> Row | None:
        return next((row for row in self.rows if row.role == role), None)

    def comparison(self, metric: str) -> Comparison | None:
        return next((c for c in self.comparisons if c.metric == metric), None)


def collect(directory: Path) -> RunRecord:
    """Read a run; RunError if there is nothing in it or a file cannot be understood."""
    known = ("config.yaml", "env.json", "metrics.jsonl", "evaluation.json")
    if not any((directory / name).is_file() for name in known):
        raise RunError(f"{directory} holds no run: none of {', '.join(known)} is in it")
    env = read_json(directory / "env.json")
    evaluation = read_json(directory / "evaluation.json")
    rows = read_metrics(directory)
    times = [row["time"] for row in rows if "time" in row]
    config = directory / "config.yaml"
    try:
        return RunRecord(
            name=directory.resolve().name,
            question=evaluation.get("question", ""),
            world=evaluation.get("world", ""),
            config=read_text(config) if config.is_file() else "",
            env={key: value for key, value in env.items() if key not in ASIDE},
            commands=list(dict.fromkeys([*commands(env), *commands(evaluation)])),
            curves=dict(curves(rows)),
            rows=[read_row(row) for row in evaluation.get("rows", [])],
            comparisons=[
                Comparison(c["name"], c["metric"], c.get("goal"), read_number(c["estimate"]))
                for c in evaluation.get("comparisons", [])
            ],
            grids=[
                picture(directory, g["file"], g["caption"]) for g in evaluation.get("grids", [])
            ],
            samples=[
                Picture(path, step_of(path))
                for path in sorted((directory / "samples").glob("*.png"))
            ],
            seconds=times[-1] - times[0] if len(times) > 1 else None,
        )
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{directory / 'evaluation.json'} is not an evaluation: {error!r}; "
            "write it anew with `fewstep eval`"
        ) from error


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}; write it anew") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} must hold a JSON object, got {type(found).__name__}")
    return found


def commands(record: Mapping[str, Any]) -> list[str]:
    found = record.get("commands", record.get("command", []))
    return [found] if isinstance(found, str) else [str(command) for command in found]


def read_number(record: Mapping[str, Any]) -> Number:
    value, low, high = (
        math.nan if record[key] is None else float(record[key]) for key in ("value", "low", "high")
    )
    return Number(value, low, high, record["n_prompts"], record["n_seeds"], record.get("n_runs", 1))


def read_row(record: Mapping[str, Any]) -> Row:
    metrics = {name: read_number(value) for name, value in record["metrics"].items()}
    return Row(record["name"], record["role"], record.get("spec") or {}, metrics)


def picture(directory: Path, file: str, caption: str) -> Picture:
    path = (directory / file).resolve()
    if not path.is_relative_to(directory.resolve()) or not path.is_file():
        raise RunError(f"the grid {file!r} of evaluation.json is not a file inside {directory}")
    return Picture(path, caption)


def step_of(path: Path) -> str:
    """`step_000200.png` -> "step 200"; any other name stays."""
    found = re.fullmatch(r"(?:step[_-]?)?0*(\d+)", path.stem)
    return f"step {found[1]}" if found else path.stem


def curves(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Curve]]:
    """Every numeric series, in the order in which names first appear."""
    steps: dict[str, list[float]] = {}
    values: dict[str, list[list[float]]] = {}
    for row in rows:
        prefix = f"{row['phase']}/" if isinstance(row.get("phase"), str) else ""
        for name, value in row.items():
            entries = value if isinstance(value, list) else [value]
            numeric = all(isinstance(v, int | float) for v in entries) and entries
            if name in ("step", "time", "phase") or not numeric:
                continue
            known = values.setdefault(prefix + name, [])
            if known and len(known[0]) != len(entries):
                raise RunError(
                    f"metrics.jsonl logs {name!r} with {len(known[0])} values and, at step "
                    f"{row['step']}, with {len(entries)}; remove the rows of one kind"
                )
            known.append([float(v) for v in entries])
            steps.setdefault(prefix + name, []).append(float(row["step"]))
    for name, found in values.items():
        yield name, Curve(np.array(steps[name]), np.array(found))
