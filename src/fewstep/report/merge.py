"""Several directories as one evaluation: rows that are the same model appear once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import eq
from pathlib import Path
from typing import TypeVar

from fewstep.report.collect import RunRecord, collect
from fewstep.report.numbers import named
from fewstep.report.results import Evaluation, Metric, Picture, Point, Row, Sheet, Spec, TradeOff
from fewstep.runs import RunError

T = TypeVar("T")


def collect_all(directories: Sequence[Path]) -> list[RunRecord]:
    """The records of directories under names that differ; RunError where one is given twice."""
    paths = [directory.resolve() for directory in directories]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise RunError(f"{directories[i]} is given twice; name each directory once")
    names = distinct(paths)
    return [replace(collect(d), name=name) for d, name in zip(directories, names, strict=True)]


def distinct(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that tell them apart."""
    longest = max(len(path.parts) for path in paths)
    for count in range(1, longest + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"paths must differ, got {paths}")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an evaluation drew: two are paired where these are equal."""

    prompts: frozenset[str]
    """Hashes."""
    seeds: tuple[int, ...]
    """Of the row with the most."""
    sizes: frozenset[tuple[int, int]]
    """Heights and widths."""


def asked(evaluation: Evaluation) -> Asked | None:
    """None where nothing was drawn."""
    specs = [row.spec for row in evaluation.rows if row.spec]
    if not specs:
        return None
    seeds = max((spec.seeds for spec in specs), key=len)
    return Asked(
        prompts=frozenset(spec.prompts_hash for spec in specs), seeds=seeds,
        sizes=frozenset((spec.height, spec.width) for spec in specs),
    )  # fmt: skip


def warnings(records: Sequence[RunRecord]) -> list[str]:
    """Why the numbers of these records may not be held against one another."""
    drawn = [(r.name, a) for r in records if (a := asked(r.evaluation))]
    told = [
        *unlike("prompts", [(name, a.prompts) for name, a in drawn]),
        *unlike("seeds", [(name, a.seeds) for name, a in drawn]),
        *unlike("sizes of pictures", [(name, a.sizes) for name, a in drawn]),
    ]
    sampled = [(r.name, s) for r in records if (s := students_specs(r.evaluation))]
    ways = [
        *unlike("sigma grids", [(name, {s.sigmas for s in own}) for name, own in sampled]),
        *unlike("samplers", [(name, {s.sampler for s in own}) for name, own in sampled]),
        *unlike("guidance", [(name, {s.guidance for s in own}) for name, own in sampled]),
    ]
    return [
        *(["The numbers are not paired.", *told] if told else []),
        *(["The students do not draw in one way.", *ways] if ways else []),
    ]


def students_specs(evaluation: Evaluation) -> list[Spec]:
    return [row.spec for row in evaluation.rows if row.role == "student" and row.spec]


def unlike(what: str, each: Sequence[tuple[str, object]]) -> list[str]:
    """A sentence on the runs whose value is not that of the first; none where all are alike."""
    other = [name for name, value in each if value != each[0][1]]
    if not other:
        return []
    return [
        f"{named(other)} {'has' if len(other) == 1 else 'have'} other {what} than {each[0][0]}."
    ]


def merge(records: Sequence[RunRecord]) -> Evaluation:
    """One evaluation of all records; rows, comparisons and pictures say whose they are."""
    if len(records) == 1:
        return records[0].evaluation
    each = [(record.name, record.evaluation) for record in records]
    whose = partial(owners, count=sum(bool(e.rows) for _, e in each))
    questions = {e.question for _, e in each if e.question}
    return Evaluation(
        suite=named(sorted({e.suite for _, e in each if e.suite}) or [""]),
        question=questions.pop() if len(questions) == 1 else "How do these runs compare?",
        world=named(sorted({e.world for _, e in each if e.world}) or [""]),
        metrics=merged_metrics([e for _, e in each]),
        rows=[
            replace(row, run=whose(names))
            for (row, _), names in gathered(
                [(name, (row, asked(e))) for name, e in each for row in e.rows], same, united
            )
        ],
        comparisons=[
            replace(comparison, run=whose(names))
            for comparison, names in gathered(
                [(name, comparison) for name, e in each for comparison in e.comparisons], eq
            )
        ],
        grids=[
            replace(picture, run=whose(names))
            for picture, names in gathered(
                [(name, picture) for name, e in each for picture in e.grids], same_picture
            )
        ],
        sheets=[
            replace(sheet, picture=replace(sheet.picture, run=whose(names)))
            for sheet, names in gathered(
                [(name, sheet) for name, e in each for sheet in e.sheets], same_sheet
            )
        ],
        curves=merged_curves(each),
        notes=[f"{name}: {note}" for name, e in each for note in e.notes],
    )


def merged_metrics(each: Sequence[Evaluation]) -> dict[str, Metric]:
    """As the first that knows a metric tells it; without a target where they have others: that of
    the truth depends on the prompts."""
    found: dict[str, Metric] = {}
    for evaluation in each:
        for key, own in evaluation.metrics.items():
            known = found.setdefault(key, own)
            if known.target != own.target:
                found[key] = replace(known, target=None)
    return found


def gathered(
    items: Iterable[tuple[str, T]], alike: Callable[[T, T], bool],
    joined: Callable[[T, T], T] = lambda first, _: first,
) -> list[tuple[T, list[str]]]:  # fmt: skip
    """Items of runs, those that are alike once, with the names of their runs."""
    found: list[tuple[T, list[str]]] = []
    for name, item in items:
        for i, (known, names) in enumerate(found):
            if name not in names and alike(known, item):
                found[i] = joined(known, item), [*names, name]
                break
        else:
            found.append((item, [name]))
    return found


def owners(names: Sequence[str], count: int) -> str:
    """Whose something is, "" if it is that of all `count` runs."""
    if len(names) == count:
        return ""
    return ", ".join(names) if len(names) <= 2 else f"{len(names)} runs"


def same(a: tuple[Row, Asked | None], b: tuple[Row, Asked | None]) -> bool:
    """Whether two rows are one model and one spec, or the truth of one set of prompts and seeds,
    and agree on every metric that both have."""
    (x, of_x), (y, of_y) = a, b
    if x.spec and y.spec:
        alike = x.spec.identity == y.spec.identity
    else:
        alike = x.role == y.role == "truth" and of_x == of_y
    return alike and all(
        math.isclose(x.metrics[key].value, y.metrics[key].value, rel_tol=1e-6, abs_tol=1e-9)
        or (math.isnan(x.metrics[key].value) and math.isnan(y.metrics[key].value))
        for key in x.metrics.keys() & y.metrics.keys()
    )


def united(
    a: tuple[Row, Asked | None], b: tuple[Row, Asked | None]
) -> tuple[Row, Asked | None]:  # fmt: skip
    """The first row with what the second knows beside it."""
    (x, of_x), (y, _) = a, b
    return replace(x, metrics={**y.metrics, **x.metrics}, cost=x.cost or y.cost), of_x


def same_picture(a: Picture, b: Picture) -> bool:
    return a.path.stat().st_size == b.path.stat().st_size and (
        a.path.read_bytes() == b.path.read_bytes()
    )


def same_sheet(a: Sheet, b: Sheet) -> bool:
    return a.prompt == b.prompt and same_picture(a.picture, b.picture)


def merged_curves(each: Sequence[tuple[str, Evaluation]]) -> list[TradeOff]:
    """Curves of one title and the same axes as one plot; a line that all have appears once."""
    count = sum(bool(e.curves) for _, e in each)
    found: dict[tuple[str, str, str], list[tuple[str, TradeOff]]] = {}
    for name, evaluation in each:
        for curve in evaluation.curves:
            found.setdefault((curve.title, curve.x, curve.y), []).append((name, curve))
    result: list[TradeOff] = []
    for own in found.values():
        items = [(name, item) for name, curve in own for item in curve.lines.items()]
        lines: dict[str, Sequence[Point]] = {}
        for (label, points), names in gathered(items, eq):
            whose = owners(names, count)
            lines[f"{label}, {whose}" if whose else label] = points
        result.append(replace(own[0][1], lines=lines))
    return result
