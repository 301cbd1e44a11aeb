"""Pages and tables of the D-OPSD studies that train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import common, pages
from benchmarks.dopsd_concepts import Taught
from benchmarks.dopsd_costs import passes_of
from benchmarks.dopsd_judge import MANY, Judge, View
from benchmarks.dopsd_pictures import write_pictures
from benchmarks.dopsd_plan import Task
from benchmarks.dopsd_records import OVER, SUCCESS, methods_records
from benchmarks.dopsd_rows import Row, by_concept, gather, main_row
from benchmarks.dopsd_two import second, second_page
from benchmarks.pages import percent, shown
from benchmarks.study_judge import read_result
from rich.console import Console

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.report.plots import COLOURS

Column = tuple[str, str, str]
"""Title, view, metric."""
CONCEPT: tuple[Column, ...] = (
    ("success", "few", "success"), ("all right", "few", "right"),
    ("count, size, background", "few", "asked"), ("copies", "few", "copied"),
    ("layouts", "few", "concept_layouts"), (f"success, {MANY} steps", "many", "success"),
)  # fmt: skip
OLD: tuple[Column, ...] = (
    ("KID", "few", "kid_change"), ("adherence", "few", "adherence_change"),
    ("layouts", "few", "layout_diversity_change"), ("Vendi", "few", "vendi_change"),
    ("sharpness", "few", "sharpness_change"), (f"KID, {MANY} steps", "many", "kid_change"),
    (f"adherence, {MANY} steps", "many", "adherence_change"),
)  # fmt: skip
PAIRED: tuple[Column, ...] = (CONCEPT[0], CONCEPT[4], *OLD[:2], *OLD[-2:])
IN_PERCENT = ("success", "right", "asked", "copied", "adherence", "concept_layouts")
LEGEND = (
    f"A picture of a novel prompt is judged as a whole: {SUCCESS}. Layouts: how far the seeds of a "
    "prompt lie apart, over the untouched student's on the same prompts in words. In brackets 95 "
    f"%: {OVER}.\n"
)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the runs are held against, by concept."""

    teacher: Mapping[str, float]
    """Success of the student in context, before training."""
    untouched: Mapping[str, float]
    """Of the same told the prompt alone."""
    words: Mapping[str, float]
    """Of the same told the words that come nearest."""


def held(judge: Judge, concepts: Sequence[Taught]) -> Held:
    def success(of: Callable[[Taught], Mapping[str, Any]]) -> dict[str, float]:
        return {one.name: float(of(one)["success"].mean()) for one in concepts}

    return Held(
        teacher=success(lambda one: judge.in_context(one, judge.student)),
        untouched=success(lambda one: judge.concept(one, judge.student)),
        words=success(lambda one: judge.concept(one, judge.student, told="words")),
    )


def cell(metric: str, e: Estimate) -> str:
    return percent(e) if metric.startswith(IN_PERCENT) else shown(e)


def told(columns: Sequence[Column], views: Sequence[View]) -> list[Column]:
    """Those of views that were judged."""
    return [column for column in columns if column[1] in views]


def cells(columns: Sequence[Column], of: Callable[[str, str], Estimate]) -> list[str]:
    return [cell(metric, of(view, metric)) for _, view, metric in columns]


def write_study(
    name: str, tasks: Sequence[Task], judge: Judge, command: str, console: Console
) -> int:
    """Everything that is made of the finished jobs."""
    results = {task: read_result(path) for task in tasks if (path := judge.finished(task))}
    if not results:
        console.print(f"no job of {name} is done: python -m benchmarks.dopsd run {name}")
        return 2
    concepts = list(
        {task.taught.name: task.taught for task in tasks if task.first is None}.values()
    )
    against = held(judge, concepts)
    rows = gather(tasks, results)
    made, where = common.facts(command, judge.args.threads), judge.where
    table = {
        "schema": 1, **made, **judge.facts(), "jobs": len(tasks), "done": len(results),
        "student": judge.student.fingerprint(), "teacher": dict(against.teacher),
        "untouched": dict(against.untouched), "words": dict(against.words),
        "rows": [row_json(row, main_row(rows), judge.views) for row in rows],
    }  # fmt: skip
    seconds = second(tasks, results)
    if seconds:
        table["second"] = seconds
    common.write_json(where.results / "tables" / f"dopsd_{name}.json", table)
    drawn = write_pictures(name, tasks, rows, judge)
    if len(results) < len(tasks):
        drawn += (
            f"**{len(results)} of {len(tasks)} runs are there.** Rows of fewer runs lack a "
            "concept: compare them by the paired table.\n\n"
        )
    drawn += f"The student is {judge.args.student}. "
    text = page(name, drawn, rows, against, judge)
    if seconds:
        text += second_page(seconds)
    picture = where.docs / "figures" / f"dopsd_{name}.png"
    figure(rows, against, picture)
    text += f"\n![Success and adherence of every run](figures/{picture.name})\n"
    pages.write_text(where.docs / f"dopsd_{name}.md", command, text)
    console.print(f"{len(results)} of {len(tasks)} jobs; wrote {where.docs / f'dopsd_{name}.md'}")
    if len(results) < len(tasks):
        console.print("no records are written before all jobs are done")
    elif name == "methods":
        stated = methods_records(rows, against.teacher, made)
        console.print(f"wrote {claims.write(stated, 'dopsd', where.results)}")
    return 0


def row_json(row: Row, main: Row | None, views: Sequence[View]) -> dict[str, Any]:
    cost = passes_of(row.arm.base)
    return {
        "name": row.arm.name, "question": row.arm.question, "level": row.arm.level,
        "runs": len(row.results), "minutes": row.minutes, "passes": cost._asdict(),
        "figures": {
            f"{v}.{m}": row.of(v, m).to_json() for _, v, m in told((*CONCEPT, *OLD), views)
        },
        "minus_main": {} if main is None or row is main else {
            f"{v}.{m}": row.minus(main, v, m).to_json() for _, v, m in told(PAIRED, views)
        },
        "success": {f"{c} {s}": x for (c, s), x in row.found("few", "success").items()},
        "failed": {f"{c} {s}": r.failed for (c, s), r in row.results.items() if r.failed},
    }  # fmt: skip


def page(name: str, drawn: str, rows: Sequence[Row], against: Held, judge: Judge) -> str:
    """Pictures first: `drawn` is their part."""
    args, main = judge.args, main_row(rows)
    concept, old, paired = (told(of, judge.views) for of in (CONCEPT, OLD, PAIRED))
    titles = ["", "runs", "success over the teacher's"]
    lines = [
        [row.label, str(len(row.results)), percent(row.over(against.teacher, "few", "success")),
         *cells(concept, row.of)]
        for row in rows
    ]  # fmt: skip
    text = (
        f"# D-OPSD on Shapes: {name}\n\n{drawn}"
        f"Four pictures of each concept, {args.novel} novel prompts and {len(judge.old)} test "
        f"prompts x {len(judge.seeds)} seeds, the same noise for all. "
        + LEGEND + "\n" + pages.markdown([*titles, *(title for title, _, _ in concept)], lines)
        + "\nTest prompts, minus the untouched student:\n\n"
        + pages.markdown(["", *(title for title, _, _ in old)],
                         [[row.label, *cells(old, row.of)] for row in rows])
    )  # fmt: skip
    if main is not None and len(rows) > 1:
        others = [row for row in rows if row is not main]
        text += f"\nMinus {main.label}, paired by concept and training seed:\n\n" + pages.markdown(
            ["", *(f"{view}: {title}" for title, view, _ in paired)],
            [[row.label, *cells(paired, partial(row.minus, main))]
             for row in others],
        )  # fmt: skip
    text += "\nSuccess by concept, mean of the training seeds:\n\n" + by_concept_table(
        rows, against
    )
    return text + "\nWhat a step costs, in passes of one picture:\n\n" + pages.markdown(
        ["", "with a gradient", "without", "minutes a run"],
        [[row.label, *(f"{x:.3g}" for x in passes_of(row.arm.base)), f"{row.minutes:.1f}"]
         for row in rows],
    ) + gone(rows)  # fmt: skip


def by_concept_table(rows: Sequence[Row], against: Held) -> str:
    known = {
        "in context, before": against.teacher, "told alone, before": against.untouched,
        "nearest words, before": against.words,
    }  # fmt: skip
    known |= {row.label: by_concept(row.found("few", "success")) for row in rows}
    names = list(against.teacher)
    return pages.markdown(
        ["", *names],
        [[label, *(f"{100 * of[n]:.0f} %" if n in of else "-" for n in names)]
         for label, of in known.items()],
    )  # fmt: skip


def gone(rows: Sequence[Row]) -> str:
    lines = [f"- {row.label}, {concept}, training seed {seed}: {r.failed}"
             for row in rows for (concept, seed), r in row.results.items() if r.failed]  # fmt: skip
    return "\nWithout pictures:\n\n" + "\n".join(lines) + "\n" if lines else ""


def figure(rows: Sequence[Row], against: Held, path: Path) -> None:
    """A line for each row: its concepts as dots and their mean, success and what it cost."""
    panels = (
        ("success", "success on novel prompts"), ("adherence_change", "adherence on test prompts, "
         "minus untouched"),
    )  # fmt: skip
    with pages.figure(path, len(panels), (10, 1.6 + 0.28 * len(rows))) as axes:
        for ax, (metric, title) in zip(axes, panels, strict=True):
            for y, row in enumerate(rows):
                dots = list(by_concept(row.found("few", metric)).values())
                ax.plot(dots, [y] * len(dots), "o", color=COLOURS[0], alpha=0.45, mew=0)
                e = row.of("few", metric)
                ax.plot([e.value], [y], "|", color=COLOURS[0], ms=9, mew=2)
            ax.set_yticks(range(len(rows)), [row.label if ax is axes[0] else "" for row in rows])
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_xlabel(title)
        mean = sum(against.teacher.values()) / len(against.teacher)
        axes[0].axvline(mean, color=COLOURS[1], ls="--", lw=1, label="in context, before")
        axes[0].legend()
        axes[1].axvline(0, color=COLOURS[1], ls=":", lw=1)
