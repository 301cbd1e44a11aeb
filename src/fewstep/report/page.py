"""One self-contained HTML page for any number of runs; nothing in it is fetched from outside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewstep.report.collect import RunRecord
from fewstep.report.configs import configured, differences, side_by_side
from fewstep.report.costs import drawing_costs, training_costs
from fewstep.report.health import beside, signs
from fewstep.report.health_plots import panels_of_health
from fewstep.report.merge import collect_all, merge, warnings
from fewstep.report.numbers import named, repeated
from fewstep.report.panels import panels
from fewstep.report.pictures import embed
from fewstep.report.plots import COLOURS, COLOURS_DARK, Panel, svg
from fewstep.report.results import Evaluation, Number, Picture, Sheet
from fewstep.report.tables import cards, compared, tables
from fewstep.report.tiles import costs, tiles
from fewstep.report.tradeoff import tradeoff
from fewstep.report.tuned import panels_of_looks, pictures_of, question, tuned, verdict_on
from fewstep.report.verdict import verdict_of_several
from fewstep.runs import RunError, write_atomic

QUESTION = "Does the few-step student draw like its teacher?"
STRIPS = 8
"""Sample strips shown; of more, the first, the last and some between."""
WIDE = 1100
"""Pixels of the column of pictures on a desktop."""


def write_report(directory: Path, *more: Path, path: Path | None = None) -> Path:
    """Write the page of one or more run or evaluation directories and return where it is.

    `path` None is `report.html` in the directory, which must then be the only one. RunError if
    that is unclear, a directory holds no run or a file cannot be understood.
    """
    if path is None:
        if more:
            raise RunError(
                f"a report of {1 + len(more)} runs belongs into none of them; "
                "name the file to write"
            )
        path = directory / "report.html"
    write_atomic(path, render(collect_all([directory, *more])).encode())
    return path


def render(records: Sequence[RunRecord]) -> str:
    """The page of records, whose names differ."""
    environment = Environment(
        loader=PackageLoader("fewstep.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["unbroken"] = unbroken
    environment.filters["factor"] = factor
    several = len(records) > 1
    evaluation = merge(records)
    strips = {r.name: spaced(r.samples, STRIPS) for r in records if r.samples}
    shown, more = panels(records)
    sheets = by_prompt(evaluation.sheets)
    watched = {r.name: r.watched for r in records if r.watched}
    script = resources.files("fewstep.report").joinpath("page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        records=records,
        several=several,
        evaluation=evaluation,
        question=evaluation.question or question(records, otherwise=QUESTION),
        verdict=verdict_of_several(evaluation) if several else verdict_on(records[0]),
        each_verdict=[(r.name, verdict_on(r), costs(r)) for r in records if several],
        intervals=intervals(measured(evaluation)),
        warnings=warnings(records),
        tiles=[] if several else tiles(records[0]),
        facts=facts(records, evaluation),
        embedded=embed(
            [
                *pictured(evaluation, strips),
                *pictures_of(records),
                *(p for own in watched.values() for _, strip in own.evidence for p in strip),
            ]
        ),
        sheets=sheets,
        strips=strips,
        cards=cards(evaluation),
        tables=tables(evaluation),
        comparisons=[(c, *compared(c, evaluation)) for c in evaluation.comparisons],
        curves=[(curve, Markup(tradeoff(curve)), list(curve.lines)) for curve in evaluation.curves],
        tuned=tuned(records),
        look_plots=[drawn(panel) for panel in panels_of_looks(records)],
        watched=watched,
        health_plots=[drawn(panel) for panel in panels_of_health(watched)] if watched else [],
        trained=[r.name for r in records if r.training],
        health=beside([signs(r.training) for r in records if r.training]),
        plots=[drawn(panel) for panel in shown],
        more_plots=[drawn(panel) for panel in more],
        specs=[row for row in evaluation.rows if row.spec],
        drawing_costs=drawing_costs(evaluation.rows),
        training_costs=training_costs(records),
        configured=configured(records),
        config_differences=differences([r.settings for r in configured(records)]),
        environments=side_by_side([r.env for r in records]),
        colours=COLOURS,
        colours_dark=COLOURS_DARK,
    )


def drawn(panel: Panel) -> tuple[Panel, Markup]:
    return panel, Markup(svg(panel))


def pictured(evaluation: Evaluation, strips: dict[str, list[Picture]]) -> list[Picture]:
    """Every picture of an evaluation and of the samples on the way."""
    sheets = [sheet.picture for sheet in evaluation.sheets]
    return [*evaluation.grids, *sheets, *(p for own in strips.values() for p in own)]


def by_prompt(sheets: Sequence[Sheet]) -> dict[str, list[Sheet]]:
    """Sheets of one prompt stand together, in the order in which prompts first appear."""
    found: dict[str, list[Sheet]] = {}
    for sheet in sheets:
        found.setdefault(sheet.prompt, []).append(sheet)
    return found


def spaced(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """At most `count` of them, evenly spaced, with the first and the last."""
    if len(pictures) <= count:
        return list(pictures)
    return [pictures[round(i * (len(pictures) - 1) / (count - 1))] for i in range(count)]


def factor(width: int) -> int:
    """How many times a picture is enlarged to fill the column: pixels stay square."""
    return max(1, min(4, WIDE // width))


def unbroken(text: str) -> str:
    """`w = 2` stays on one line, and so does `80 %`."""
    return text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")


def facts(records: Sequence[RunRecord], evaluation: Evaluation) -> list[str]:
    """The line under the verdict."""
    found = [record.name for record in records] if len(records) <= 4 else [f"{len(records)} runs"]
    if evaluation.world:
        found.append(f"world: {evaluation.world}")
    if evaluation.suite:
        found.append(f"suite: {evaluation.suite}")
    if numbers := measured(evaluation):
        found += [repeated(numbers), intervals(numbers)]
    return found


def measured(evaluation: Evaluation) -> list[Number]:
    """The numbers of all rows that stand on all of their prompts: a kind of prompts and a part of
    what is asked have fewer."""
    return [
        number
        for row in evaluation.rows
        for number in row.metrics.values()
        if number.n_prompts == max(other.n_prompts for other in row.metrics.values())
    ]


def intervals(numbers: Sequence[Number]) -> str:
    """What the intervals of numbers are about, where any has one."""
    over = {"training runs" if n.n_runs > 1 else "prompts" for n in numbers if n.has_interval}
    return f"95 % intervals over {named(sorted(over))}" if over else "no intervals"
