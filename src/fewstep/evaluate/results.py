"""What an evaluation found, and `evaluation.json`, in which a report reads it.

    {"schema": 3, "suite": str, "question": str, "world": str, "commands": [str],
     "metrics": {key: {"label", "group", "better", "explained", "percent", "target", "main"}},
     "rows": [{"name", "role", "spec": {...} or null, "metrics": {key: estimate},
               "cost": {"seconds", "images", "model_calls", "peak_memory_mb"} or null}],
     "comparisons": [{"name", "metric": key, "rows": [name of a row], "goal": number or null,
                      "estimate": estimate}],
     "grids": [{"file": path inside the directory, "caption": str}],
     "sheets": [{"file", "caption", "row": name of a row, "prompt"}],
     "curves": [{"title", "caption", "x": label, "y": label,
                 "lines": [{"name", "points": [{"label", "x": estimate, "y": estimate}]}]}],
     "notes": [str]}

with estimate = {"value", "low", "high", "n_prompts", "n_seeds", "n_runs"}, null where undefined.
The comparison with the metric "kid_gap_closed" carries the report's verdict. The first of a
comparison's rows is the one that it is about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.statistics import Estimate
from fewstep.runs import write_atomic

SCHEMA = 3

Role = Literal["truth", "teacher_full", "teacher_few", "student", "other"]
"""What a row is in the story: the report asks how far the student went from few to full."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the pictures of a row took to make."""

    seconds: float
    """Wall time of drawing; 0 where all were there already."""
    images: int
    """Drawn in that time."""
    model_calls: int
    peak_memory_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model in the table."""

    name: str
    role: Role
    metrics: Mapping[str, Estimate]
    spec: GenerationSpec | None = None
    """How its images were made; None for the truth."""
    cost: Cost | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "role": self.role,
            "spec": self.spec.to_json() if self.spec else None,
            "metrics": {key: value.to_json() for key, value in self.metrics.items()},
            "cost": asdict(self.cost) if self.cost else None,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A number about two or more rows, on the same prompts, seeds and resamples."""

    name: str
    metric: str
    rows: tuple[str, ...]
    """Names: the row that the number is about, then those that it is held against. A difference has
    (a, b) and is a - b; a share of a gap has (student, start, end)."""
    estimate: Estimate
    goal: float | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "metric": self.metric,
            "rows": list(self.rows),
            "goal": self.goal,
            "estimate": self.estimate.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Pictures of one prompt by one model, a seed each."""

    file: str
    caption: str
    row: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Point:
    label: str
    x: Estimate
    y: Estimate

    @staticmethod
    def at(label: str, x: float, y: Estimate) -> Point:
        """A measured y at a known x."""
        return Point(label=label, x=replace(y, value=x, low=x, high=x), y=y)

    def to_json(self) -> dict[str, object]:
        return {"label": self.label, "x": self.x.to_json(), "y": self.y.to_json()}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points joined in their order, a line for each name."""

    title: str
    caption: str
    x: str
    y: str
    lines: Mapping[str, Sequence[Point]]

    def to_json(self) -> dict[str, object]:
        lines = [
            {"name": name, "points": [point.to_json() for point in points]}
            for name, points in self.lines.items()
        ]
        return {
            "title": self.title, "caption": self.caption, "x": self.x, "y": self.y, "lines": lines,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that is written."""

    suite: str
    question: str
    world: str
    rows: Sequence[Row]
    comparisons: Sequence[Comparison] = ()
    grids: Mapping[str, str] = field(default_factory=dict)
    """Files inside the directory, and their captions."""
    sheets: Sequence[Sheet] = ()
    curves: Sequence[Curve] = ()
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()
    """What went wrong or could not be measured."""

    def to_json(self) -> dict[str, Any]:
        keys = [key for row in self.rows for key in row.metrics]
        keys += [comparison.metric for comparison in self.comparisons]
        truth = next((row.metrics for row in self.rows if row.role == "truth"), {})
        return {
            "schema": SCHEMA,
            "suite": self.suite,
            "question": self.question,
            "world": self.world,
            "commands": list(self.commands),
            "metrics": {
                key: metric(key).beside(truth.get(key)).to_json() for key in dict.fromkeys(keys)
            },
            "rows": [row.to_json() for row in self.rows],
            "comparisons": [c.to_json() for c in self.comparisons],
            "grids": [{"file": file, "caption": text} for file, text in self.grids.items()],
            "sheets": [asdict(sheet) for sheet in self.sheets],
            "curves": [curve.to_json() for curve in self.curves],
            "notes": list(self.notes),
        }


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `evaluation.json` whole or not at all."""
    text = json.dumps(evaluation.to_json(), indent=1, allow_nan=False)
    write_atomic(path, text.encode() + b"\n")
