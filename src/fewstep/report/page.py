"""One self-contained HTML page for a run: no scripts, no fonts, no links to anything outside."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fewstep.report.collect import Comparison, Number, Picture, Row, RunRecord, collect
from fewstep.report.plots import panels, svg
from fewstep.report.verdict import METRICS, counted, digits, metric, repeated, shown, verdict
from fewstep.runs import write_atomic

QUESTION = "Does the few-step student draw like its teacher?"
STRIPS = 8
"""Sample strips shown; of more, the first, the last and some between."""


def write_report(directory: Path, path: Path | None = None) -> Path:
    """Write `report.html` into the run (or to `path`) and return where it is.

    Raises RunError if the directory holds no run or a file of it cannot be understood.
    """
    path = path or directory / "report.html"
    write_atomic(path, render(collect(directory)).encode())
    return path


def render(record: RunRecord) -> str:
    """The page of a run."""
    source = resources.files("fewstep.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    main, rest = panels(record.curves)
    answer, sentence = verdict(record)
    return environment.from_string(source).render(
        record=record,
        question=record.question or QUESTION,
        answer=answer,
        sentence=sentence,
        tiles=tiles(record),
        facts=facts(record),
        grids=[(embedded(p), p.caption) for p in record.grids],
        samples=[(embedded(p), p.caption) for p in spaced(record.samples, STRIPS)],
        cards=cards(record.rows),
        tables=tables(record.rows),
        comparisons=[
            (c.name, *compared(c), goal(c.goal, c.metric), counted(c.number))
            for c in record.comparisons
        ],
        plots=[(panel.title, Markup(svg(panel))) for panel in main],
        more_plots=[(panel.title, Markup(svg(panel))) for panel in rest],
        specs=[(row.name, spec(row.spec)) for row in record.rows if row.spec],
        env=flat(record.env),
    )  # fmt: skip


def embedded(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode()
    return f"data:image/png;base64,{data}"


def spaced(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """At most `count` of them, evenly spaced, with the first and the last."""
    if len(pictures) <= count:
        return list(pictures)
    return [pictures[round(i * (len(pictures) - 1) / (count - 1))] for i in range(count)]


def compared(comparison: Comparison) -> tuple[str, str]:
    """Value and interval; a difference of two shares is told in points."""
    value, interval = shown(comparison.number, metric(comparison.metric).percent)
    share = comparison.metric.startswith("adherence")
    return value.replace(" %", " points") if share else value, interval


def goal(value: float | None, name: str) -> str:
    if value is None:
        return ""
    return f"{value * 100:.0f} %" if metric(name).percent else f"{value:g}"


def tiles(record: RunRecord) -> list[tuple[str, str, str, str]]:
    """(label, value, interval, whose) of the few numbers that tell the story."""
    found: list[tuple[str, str, str, str]] = []
    student = record.with_role("student")
    if closed := record.comparison("kid_gap_closed"):
        whose = student.name if student else ""
        found.append(("KID gap closed", *shown(closed.number, percent=True), whose))
    for row in (record.with_role("teacher_full"), record.with_role("teacher_few"), student):
        if row and "adherence" in row.metrics:
            number = shown(row.metrics["adherence"], percent=True)
            found.append(("Adherence", *number, row.name))
    return found


def unbroken(text: str) -> str:
    """`w = 2` stays on one line."""
    return text.replace(" = ", "\u00a0=\u00a0")


def facts(record: RunRecord) -> list[str]:
    """The line under the verdict."""
    found = [record.name]
    if record.world:
        found.append(f"world: {record.world}")
    numbers = [n for row in record.rows for n in row.metrics.values()]
    if numbers:
        found.append(repeated(numbers))
    if record.seconds is not None:
        found.append(f"trained for {duration(record.seconds)}")
    return found


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def cards(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each main metric the rows as dots with intervals on a common scale, in % of the width."""
    found: list[dict[str, Any]] = []
    for name, kind in METRICS.items():
        numbers = [(row, row.metrics[name]) for row in rows if name in row.metrics]
        finite = [
            v
            for _, n in numbers
            for v in (n.value, n.low, n.high)
            if math.isfinite(v)
        ]  # fmt: skip
        if not finite:
            continue
        marks = [kind.target] if kind.target is not None else []
        low, high = min(finite + marks), max(finite + marks)
        margin = 0.04 * (high - low) or 1.0
        low, high = low - margin, high + margin

        def place(value: float, low: float = low, high: float = high) -> float:
            return round(100 * (value - low) / (high - low), 2)

        places = max(digits(n, kind.percent) for _, n in numbers)
        found.append(
            {
                "metric": kind,
                "target": None if kind.target is None else place(kind.target),
                "rows": [
                    {
                        "name": row.name,
                        "role": row.role,
                        "text": shown(number, kind.percent, places),
                        "at": place(number.value) if math.isfinite(number.value) else None,
                        "bar": bar(number, place),
                    }
                    for row, number in numbers
                ],
            }
        )
    return found


def bar(number: Number, place: Any) -> tuple[float, float] | None:
    """(left, width) of an interval in percent."""
    if not number.has_interval:
        return None
    left, right = place(number.low), place(number.high)
    return left, round(right - left, 2)


def tables(rows: Sequence[Row]) -> list[tuple[str, str, dict[str, Any]]]:
    """(title, what it shows, table): all metrics, and what adherence is made of."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    parts = [name for name in names if name.startswith("adherence_")]
    whole = [name for name in names if name not in parts]
    found = [
        ("All metrics", "Calls of the model make one picture; guidance takes two a step.", whole),
        ("Parts of adherence", "Share of images in which this much is right.", parts),
    ]
    return [(title, text, table(rows, own)) for title, text, own in found if own]


def table(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Metrics of every row as text, one number of decimals a column."""
    places = {
        name: max(
            digits(row.metrics[name], metric(name).percent) for row in rows if name in row.metrics
        )
        for name in names
    }

    def cell(row: Row, name: str) -> tuple[str, str] | None:
        number = row.metrics.get(name)
        return number and shown(number, metric(name).percent, places[name])

    return {
        "heads": [metric(name) for name in names],
        "rows": [
            (
                row,
                [cell(row, name) for name in names],
                str(row.spec.get("model_calls", "")),
                repeated(list(row.metrics.values())),
            )
            for row in rows
        ],
    }


def spec(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A generation spec as label and text."""
    return [
        (key.replace("_", " "), text(value)) for key, value in record.items() if value is not None
    ]


def text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(text(v) for v in value)
    return value if isinstance(value, str) else json.dumps(value)


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as dotted names and text."""
    found: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, text(value)))
    return found
