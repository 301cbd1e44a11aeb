"""From judged runs to tables: means over training seeds, paired differences, figures, records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import common, pages
from benchmarks.common import weights_of
from benchmarks.pages import percent, shown
from benchmarks.study_judge import Judge, References, read_result
from benchmarks.study_pictures import write_pictures
from benchmarks.study_plan import DEFAULT, Study, method_of
from benchmarks.study_records import RECORDS
from benchmarks.study_rows import COLLAPSE, NOTHING, Row, gather
from rich.console import Console

from fewstep import claims
from fewstep.evaluate.metrics import evaluate
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.config import Experiment
from fewstep.report.plots import COLOURS

PICTURED = ("seeds", "convention")
"""Studies of few variants: their pictures fit beside the teacher's."""
SHOWN = ("kid_gap_closed", "adherence", "kid", "layout_diversity", "sharpness")
LEGENDS = {
    "seeds": "",
    "ablations": "\nN: steps of the heads for each of the student. m: logit of the median level to "
    "which pictures are re-noised before they are judged. Batch: at equal samples seen; steps, "
    "warm-ups and the EMA go with the batch, learning rates with its root. Misaligned pairs: "
    "weight of real pictures under another text as fakes. EMA off: the same runs, judged by "
    "the weights that were trained last.\n",
    "convention": "\nWrong: the model is given sigma for its time, and its output passes for v, as "
    "in the public Z-Image LADD code; the student is then sampled in the right convention, or in "
    "the same wrong one.\n",
}


def write_study(study: Study, judge: Judge, command: str, console: Console) -> int:
    """Everything that is made of the finished jobs."""
    jobs = study.jobs()
    results = [read_result(path) for job in jobs if (path := judge.finished(job))]
    if not results:
        console.print(f"no job of {study.name} is done: python -m benchmarks.studies run ...")
        return 2
    references = judge.references()
    teacher = teacher_rows(references)
    few = teacher["few"]["adherence"].value
    rows = gather(study, results, few)
    if rows[0].variant.name != DEFAULT:
        console.print("the default has no finished run yet, and everything is held against it")
        return 2
    made = common.facts(command, judge.args.threads)
    steps, where, name = study.base.loop.steps, judge.where, f"ladd_{study.name}"
    record = {
        "schema": 1, **made, **judge.facts(), "steps": steps, "jobs": len(jobs),
        "done": len(results), "collapse": COLLAPSE,
        "teacher": {k: {m: e.to_json() for m, e in v.items()} for k, v in teacher.items()},
        "rows": [as_json(row, rows[0]) for row in rows],
    }  # fmt: skip
    common.write_json(where.results / "tables" / f"{name}.json", record)
    figures = where.docs / "figures"
    plot(study, rows, teacher, figures / f"{name}.png")
    text = page(study, rows, teacher, judge, f"figures/{name}.png")
    if study.name in PICTURED and len(results) == len(jobs):
        pictures = write_pictures(study, judge, figures / f"{name}_pictures.png")
        text += f"\n![What they draw, first test prompts](figures/{pictures.name})\n"
    pages.write_text(where.docs / f"{name}.md", command, text)
    console.print(f"{len(results)} of {len(jobs)} jobs; wrote {where.docs / name}.md")
    if len(results) < len(jobs):
        console.print("no records are written before all jobs are done")
        return 0
    for row in rows:
        for seed, why in row.missing("adherence").items():
            console.print(f"error: {row.label}, training seed {seed} has no pictures: {why}")
    if stated := RECORDS[study.name](rows, teacher, made):
        console.print(f"wrote {claims.write(stated, 'spine', where.results)}")
    return 0


def teacher_rows(references: References) -> dict[str, dict[str, Estimate]]:
    """The teacher's metrics, with intervals over prompts."""
    weights = weights_of(len(references.truth.prompts))
    sets = {"full": references.full, "few": references.few}
    return {name: evaluate(m, references.truth, weights) for name, m in sets.items()}


def as_json(row: Row, default: Row) -> dict[str, Any]:
    metrics = sorted({m for of in row.values.values() for m in of})
    v = row.variant
    return {
        "name": v.name, "question": v.question, "level": v.level, "overrides": dict(v.overrides),
        "view": v.view, "collapsed": dict(row.collapsed), "runs": row.runs,
        "metrics": {m: row.mean(m).to_json() for m in metrics},
        "minus_default": {} if row is default else {
            m: row.minus(default, m).to_json() for m in metrics
        },
        "by_seed": {
            s: {k: x if math.isfinite(x) else None for k, x in of.items()}
            for s, of in row.values.items()
        },
        "minutes": list(row.minutes),
    }  # fmt: skip


def cells(metric: Callable[[str], Estimate], runs: int = 0) -> list[str]:
    """The shown metrics; one that fewer than so many runs have says so."""
    found = [
        percent(metric(m)) if m in ("kid_gap_closed", "adherence") else shown(metric(m))
        for m in SHOWN
    ]
    counts = [metric(m).n_runs if math.isfinite(metric(m).value) else 0 for m in SHOWN]
    return [
        f"{text}, {n} of {runs} runs" if n < runs else text
        for text, n in zip(found, counts, strict=True)
    ]


def page(
    study: Study, rows: Sequence[Row], teacher: Mapping[str, Mapping[str, Estimate]],
    judge: Judge, picture: str,
) -> str:  # fmt: skip
    default = rows[0]
    base = study.base
    full, w = base.eval.full(base.data.samples.steps, base.data.samples.guidance)
    steps = base.sampling.steps
    titles = ["", "runs", "KID gap closed", "adherence", "KID", "layout diversity", "sharpness"]
    lines = [
        [name, "", *cells(lambda m, of=of: of.get(m, NOTHING))]
        for name, of in (
            (f"teacher, {full} steps, w = {w:g}", teacher["full"]),
            (f"teacher, {steps} steps", teacher["few"]),
        )
    ]
    lines += [[row.label + settings(row, base), runs_of(row), *cells(row.mean, row.runs)]
              for row in rows]  # fmt: skip
    text = (
        f"# LADD on Shapes: {study.name}\n\n"
        f"Students of {steps} steps without guidance, recipe `ladd_shapes` at {base.loop.steps} "
        f"steps of {base.data.batch_size}, judged on {len(judge.prompts)} test prompts x "
        f"{len(judge.seeds)} seeds. Students: mean over training runs, in brackets the 95 % "
        "t-interval over runs; teacher: bootstrap over prompts. KID gap closed: 0 % is the teacher "
        f"at {steps} steps, 100 % at full steps; it takes the teacher's two KIDs as they are.\n\n"
        f"![{study.name}]({picture})\n\n" + pages.markdown(titles, lines)
    )
    if len(rows) > 1:
        differences = [
            [row.label, *cells(lambda m, row=row: row.minus(default, m), row.runs)]
            for row in rows[1:]
        ]
        text += (
            "\nMinus the default (adherence in points), paired by training seed:\n\n"
            + pages.markdown([titles[0], *titles[2:]], differences)
        )  # fmt: skip
    gone = [f"- {r.label}, training seed {s}: {why}" for r in rows
            for s, why in r.collapsed.items()]  # fmt: skip
    text += f"\nA run has {COLLAPSE}.\n\n" + ("\n".join(gone) if gone else "None has.") + "\n"
    return text + LEGENDS[study.name]


def settings(row: Row, base: Experiment) -> str:
    """What the default row is."""
    if row.variant.name != DEFAULT:
        return ""
    m = method_of(base)
    return (
        f": N {m.student_every}, re-noise m {m.renoise_mean:g}, batch {base.data.batch_size}, "
        f"{m.loss}, misaligned pairs {m.misaligned_weight:g}, EMA {m.ema_decay:g}"
    )


def runs_of(row: Row) -> str:
    return f"{row.runs}" + (f", {len(row.collapsed)} collapsed" if row.collapsed else "")


def plot(
    study: Study, rows: Sequence[Row], teacher: Mapping[str, Mapping[str, Estimate]], path
) -> None:
    """A line for each variant: its runs as dots, their mean and interval; the teacher beside."""
    panels = (("kid", "KID"), ("adherence", "adherence"))
    rows = [row for row in rows if row.variant.view != "own"]  # far off every scale
    names = [row.label for row in rows]
    size = (8.5, 1.3 + 0.28 * len(rows))
    with pages.figure(path, 2, size) as axes:
        for ax, (metric, title) in zip(axes, panels, strict=True):
            for which, style, text in (("full", "-", "teacher, full steps"),
                                       ("few", "--", "teacher, as few steps")):  # fmt: skip
                ax.axvline(teacher[which][metric].value, color="#70767f", ls=style, lw=1,
                           label=text)  # fmt: skip
            for y, row in enumerate(rows):
                colour = COLOURS[0 if row.variant.name == DEFAULT else 1]
                dots = [of[metric] for of in row.values.values()]
                ax.plot(dots, [y] * len(dots), "o", color=colour, alpha=0.45, mew=0)
                e = row.mean(metric)
                if math.isfinite(e.low):
                    ax.plot([e.low, e.high], [y, y], color=colour, lw=1.2)
                ax.plot([e.value], [y], "|", color=colour, ms=9, mew=2)
            ax.set_yticks(range(len(rows)), names if ax is axes[0] else [""] * len(rows))
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_xlabel(title)
        axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right",
                              ncols=2)  # fmt: skip
