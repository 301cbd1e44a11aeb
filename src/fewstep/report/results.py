"""What an evaluation found, as a report holds it; `report/evaluation.py` reads it from its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


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


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is shown; `main` ones stand on cards."""

    label: str
    group: str
    better: str = ""
    explained: str = ""
    percent: bool = False
    target: float | None = None
    main: bool = False


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How the pictures of a row were made."""

    fingerprint: str
    """Hash of the weights."""
    n_prompts: int
    prompts_hash: str
    seeds: tuple[int, ...]
    sigmas: tuple[float, ...]
    sampler: str
    guidance: float
    model_calls: int
    """One picture's."""
    height: int
    width: int
    identity: str
    """Everything that decides the pictures, as text: equal where the same were made."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the pictures of a row took to make."""

    seconds: float
    images: int
    model_calls: int
    peak_memory_mb: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model in the table; the truth has no spec."""

    name: str
    role: str
    metrics: Mapping[str, Number]
    spec: Spec | None = None
    cost: Cost | None = None
    run: str = ""
    """The run it comes from, on a page of several; empty where they share the row."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A number about the first of `rows`, which are names, held against the others."""

    name: str
    metric: str
    rows: tuple[str, ...]
    goal: float | None
    number: Number
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A file, what it shows and, on a page of several runs, whose it is."""

    path: Path
    caption: str
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Pictures of one prompt by one model, a seed each."""

    picture: Picture
    row: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Point:
    label: str
    x: Number
    y: Number


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """Two measured quantities against each other: points joined in their order, line by line."""

    title: str
    caption: str
    x: str
    y: str
    lines: Mapping[str, Sequence[Point]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found; the defaults are those of a run without one."""

    suite: str = ""
    question: str = ""
    world: str = ""
    commands: Sequence[str] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    comparisons: Sequence[Comparison] = ()
    grids: Sequence[Picture] = ()
    sheets: Sequence[Sheet] = ()
    curves: Sequence[TradeOff] = ()
    notes: Sequence[str] = ()

    def with_name(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def with_role(self, role: str) -> Row | None:
        return next((row for row in self.rows if row.role == role), None)
