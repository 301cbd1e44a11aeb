"""Numbers of an evaluation as cells: cards, tables by group and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fewstep.report.numbers import counted, digits, repeated, shown, shown_difference
from fewstep.report.results import Comparison, Evaluation, Metric, Number, Row
from fewstep.report.verdict import is_difference

TITLES = {
    "fidelity": ("Fidelity", "How close the pictures are to the reference as a whole."),
    "adherence": ("Adherence", "Whether the pictures show what was asked."),
    "categories": ("Kinds of prompts", "Adherence on the prompts of one kind."),
    "diversity": ("Diversity", "How much the seeds of one prompt differ."),
    "quality": ("Quality", "Blur, noise and colour of single pictures."),
    "collapse": ("Collapse", "Signs that a model draws the same whatever is asked."),
}
"""In the order of the page."""


COLUMNS = 8
"""Metrics that a desktop has room for side by side."""


@dataclass(frozen=True)
class Cell:
    """Text, what stands small below it, and the number by which the column is sorted."""

    text: str
    below: str = ""
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The metrics of one group. What was repeated stands in the caption where it is the same for
    all numbers, else below the heads of columns, else in a column of its own."""

    title: str
    about: str
    metrics: Sequence[Metric]
    rows: Sequence[tuple[Row, Sequence[Cell]]]
    repeated: str = ""
    column_repeated: Sequence[str] = ()
    row_repeated: Sequence[str] = ()
    half: bool = False
    """Narrow enough to share a line of the page with the next or the last table."""

    @property
    def meanings(self) -> dict[str, str]:
        """What the metrics mean, by label; the same on other features is not told again."""
        found: dict[str, str] = {}
        for metric in self.metrics:
            better = f" {metric.better.capitalize()}." if metric.better else ""
            if metric.explained and metric.explained + better not in found.values():
                found[metric.label] = metric.explained + better
        return found


@dataclass(frozen=True)
class Mark:
    """A row on a card: places are in % of the width."""

    row: Row
    cell: Cell
    at: float | None
    bar: tuple[float, float] | None
    """Left and width of the interval."""


@dataclass(frozen=True)
class Card:
    """A main metric of all rows on a common scale."""

    metric: Metric
    target: float | None
    marks: Sequence[Mark]


def cell(number: Number | None, percent: bool, places: int | None = None) -> Cell:
    if number is None:
        return Cell("n/a")
    value, interval = shown(number, percent, places)
    return Cell(value, interval, number.value if math.isfinite(number.value) else None)


def tables(evaluation: Evaluation) -> list[Table]:
    """The tables of each group that has a metric: one, or several where it has many."""
    found: list[Table] = []
    for group, (title, about) in TITLES.items():
        keys = [
            key
            for key, metric in evaluation.metrics.items()
            if metric.group == group and any(key in row.metrics for row in evaluation.rows)
        ]
        for i, part in enumerate(parts(keys)):
            rows = [row for row in evaluation.rows if any(key in row.metrics for key in part)]
            name = f"{title}, continued" if i else title
            found.append(table(name, about, part, rows, evaluation))
    return side_by_side(found)


def parts(keys: Sequence[str]) -> list[Sequence[str]]:
    """The columns of one table each, as equal in number as can be and at most `COLUMNS`."""
    if not keys:
        return []
    size = math.ceil(len(keys) / math.ceil(len(keys) / COLUMNS))
    return [keys[i : i + size] for i in range(0, len(keys), size)]


def side_by_side(found: Sequence[Table]) -> list[Table]:
    """The same tables in the same order, narrow neighbours in pairs."""
    result: list[Table] = []
    waiting = False
    for own in found:
        narrow = len(own.metrics) <= 2 and not own.row_repeated
        if narrow and waiting:
            result[-1] = replace(result[-1], half=True)
            own = replace(own, half=True)
        waiting = narrow and not waiting
        result.append(own)
    return result


def table(
    title: str, about: str, keys: Sequence[str], rows: Sequence[Row], evaluation: Evaluation
) -> Table:
    """The metrics of rows, one number of decimals a column."""
    columns: list[list[Cell]] = []
    for key in keys:
        percent = evaluation.metrics[key].percent
        numbers = [row.metrics.get(key) for row in rows]
        places = max(digits(number, percent) for number in numbers if number)
        columns.append([cell(number, percent, places) for number in numbers])
    found = Table(
        title=title, about=about, metrics=[evaluation.metrics[key] for key in keys],
        rows=list(zip(rows, zip(*columns, strict=True), strict=True)),
    )  # fmt: skip
    by_column = [{counted(row.metrics[key]) for row in rows if key in row.metrics} for key in keys]
    if len(set.union(*by_column)) == 1:
        return replace(found, repeated=by_column[0].pop())
    if all(len(own) == 1 for own in by_column):
        return replace(found, column_repeated=[own.pop() for own in by_column])
    by_row = [repeated([row.metrics[key] for key in keys if key in row.metrics]) for row in rows]
    return replace(found, row_repeated=by_row)


def cards(evaluation: Evaluation) -> list[Card]:
    """The main metrics that have a number."""
    found: list[Card] = []
    for key, metric in evaluation.metrics.items():
        numbers = [(row, row.metrics[key]) for row in evaluation.rows if key in row.metrics]
        bounds = [v for _, n in numbers for v in (n.value, n.low, n.high) if math.isfinite(v)]
        if not metric.main or not bounds:
            continue
        if metric.target is not None:
            bounds.append(metric.target)
        low, high = min(bounds), max(bounds)
        margin = 0.04 * (high - low) or 1.0
        scale = low - margin, high + margin
        places = max(digits(n, metric.percent) for _, n in numbers)
        marks = [
            mark(row, number, cell(number, metric.percent, places), scale)
            for row, number in numbers
        ]
        target = None if metric.target is None else place(metric.target, scale)
        found.append(Card(metric, target, marks))
    return found


def place(value: float, scale: tuple[float, float]) -> float:
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)


def mark(row: Row, number: Number, text: Cell, scale: tuple[float, float]) -> Mark:
    at = place(number.value, scale) if math.isfinite(number.value) else None
    if not number.has_interval:
        return Mark(row, text, at, None)
    left = place(number.low, scale)
    return Mark(row, text, at, (left, round(place(number.high, scale) - left, 2)))


def compared(comparison: Comparison, evaluation: Evaluation) -> tuple[Cell, str, str, str]:
    """Value, goal, what it reads as, and what was repeated."""
    metric, number = evaluation.metrics[comparison.metric], comparison.number
    if is_difference(comparison, evaluation.rows):
        text, below = shown_difference(number, metric.percent)
        value = number.value if math.isfinite(number.value) else None
        found, reads = Cell(text, below, value), direction(number, metric)
    else:
        found, reads = cell(number, metric.percent), reached(number, comparison.goal)
    if not number.has_interval:
        reads = "no interval" if math.isfinite(number.value) else "undefined"
    return found, goal(comparison.goal, metric), reads, counted(number)


def direction(number: Number, metric: Metric) -> str:
    """A difference in words; it has an interval."""
    if number.low <= 0 <= number.high:
        return "not told apart"
    higher = number.low > 0
    match metric.better:
        case "higher is better":
            return "better" if higher else "worse"
        case "lower is better":
            return "worse" if higher else "better"
        case _:
            return "higher" if higher else "lower"


def reached(number: Number, target: float | None) -> str:
    """A value with an interval against its goal in words, "" without one."""
    if target is None:
        return ""
    if number.low >= target:
        return "reached"
    return "missed" if number.high < target else "open: the interval holds the goal"


def goal(value: float | None, metric: Metric) -> str:
    if value is None:
        return ""
    return f"{value * 100:.0f} %" if metric.percent else f"{value:g}"
