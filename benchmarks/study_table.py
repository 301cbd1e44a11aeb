"""From judged runs to tables: means over training seeds, paired differences, figures, records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import common
from benchmarks.common import claim, percent, shown, weights_of
from benchmarks.study_judge import Judge, References, Result, read_result
from benchmarks.study_plan import DEFAULT, Study, Variant
from rich.console import Console

from fewstep import claims
from fewstep.evaluate.statistics import Estimate, over_runs
from fewstep.evaluate.suite import evaluate
from fewstep.experiment.config import Experiment

FAR_BELOW = 0.20
"""Adherence this much below the teacher's at few steps is a collapse."""
SATURATED = 0.5
"""So is more than this share of channel values at either end of the range; true pictures have a few
per cent."""
COLLAPSE = (
    "collapsed: training stopped at values that are not finite, or adherence more than "
    f"{100 * FAR_BELOW:.0f} points below the teacher's at the same number of steps, or more than "
    f"{100 * SATURATED:.0f} % of all channel values at either end of the range"
)
SHOWN = ("kid_gap_closed", "adherence", "kid", "layout_diversity", "sharpness")
NO_GAP = "the teacher at few steps is no worse in KID than at full steps: there is no gap to close"
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
NOTHING = Estimate(math.nan, math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class Row:
    """A variant over its training seeds; runs without pictures count in `collapsed` alone."""

    variant: Variant
    values: Mapping[int, Mapping[str, float]]
    """Metrics by training seed."""
    collapsed: Mapping[int, str]
    minutes: Sequence[float]

    def mean(self, metric: str) -> Estimate:
        """Over the training seeds, t-interval."""
        return over_seeds({s: of[metric] for s, of in self.values.items()})

    def minus(self, other: Row, metric: str) -> Estimate:
        """The paired difference over the training seeds that both have."""
        both = self.values.keys() & other.values.keys()
        return over_seeds(
            {s: self.values[s][metric] - other.values[s][metric] for s in sorted(both)}
        )

    @property
    def runs(self) -> int:
        return len(self.minutes)


def over_seeds(found: Mapping[int, float]) -> Estimate:
    """Over the runs in which the number is defined (a collapsed run may have no layouts)."""
    known = [x for x in found.values() if math.isfinite(x)]
    return over_runs(known) if known else NOTHING


def collapse(result: Result, metrics: Mapping[str, float] | None, few_adherence: float) -> str:
    """Why a run counts as collapsed; "" if it does not."""
    if metrics is None:
        return result.failed or "its pictures are not finite"
    if metrics["adherence"] < few_adherence - FAR_BELOW:
        return f"adherence {metrics['adherence']:.3f} against {few_adherence:.3f} of the teacher"
    if metrics["saturated"] > SATURATED:
        return f"{100 * metrics['saturated']:.0f} % of the values are saturated"
    return ""


def gather(study: Study, results: Sequence[Result], few_adherence: float) -> list[Row]:
    """A row for each variant that has a run, in the order of the plan."""
    rows: list[Row] = []
    for variant in study.variants:
        own = [r for r in results if r.variant == (variant.trained_as or variant.name)]
        found = {r.seed: r.views.get(variant.view) for r in own}
        why = {r.seed: collapse(r, found[r.seed], few_adherence) for r in own}
        if own:
            rows.append(Row(
                variant, {s: m for s, m in found.items() if m is not None},
                {s: text for s, text in why.items() if text}, [r.minutes for r in own],
            ))  # fmt: skip
    return rows


def write_study(study: Study, judge: Judge, command: str, console: Console) -> int:
    """Everything that is made of the finished jobs."""
    jobs = study.jobs()
    paths = [judge.result_path(job) for job in jobs]
    results = [read_result(path) for path in paths if path.exists()]
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
    picture = where.docs / "figures" / f"{name}.png"
    plot(study, rows, teacher, picture)
    text = page(study, rows, teacher, judge, f"figures/{picture.name}")
    common.write_text(where.docs / f"{name}.md", command, text)
    console.print(f"{len(results)} of {len(jobs)} jobs; wrote {where.docs / name}.md")
    if len(results) < len(jobs):
        console.print("no records are written before all jobs are done")
        return 0
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


def cells(metric: Callable[[str], Estimate]) -> list[str]:
    return [
        percent(metric(m)) if m in ("kid_gap_closed", "adherence") else shown(metric(m))
        for m in SHOWN
    ]


def page(
    study: Study, rows: Sequence[Row], teacher: Mapping[str, Mapping[str, Estimate]],
    judge: Judge, picture: str,
) -> str:  # fmt: skip
    default = rows[0]
    base = study.base
    samples, steps = base.data.samples, base.sampling.steps
    titles = ["", "runs", "KID gap closed", "adherence", "KID", "layout diversity", "sharpness"]
    lines = [
        [name, "", *cells(lambda m, of=of: of.get(m, NOTHING))]
        for name, of in (
            (f"teacher, {samples.steps} steps, w = {samples.guidance:g}", teacher["full"]),
            (f"teacher, {steps} steps", teacher["few"]),
        )
    ]
    lines += [[label(row) + settings(row, base), runs_of(row), *cells(row.mean)] for row in rows]
    text = (
        f"# LADD on Shapes: {study.name}\n\n"
        f"Students of {steps} steps without guidance, recipe `ladd_shapes` at {base.loop.steps} "
        f"steps of {base.data.batch_size}, judged on {len(judge.prompts)} test prompts x "
        f"{len(judge.seeds)} seeds. Students: mean over training runs, in brackets the 95 % "
        "t-interval over runs; teacher: bootstrap over prompts. KID gap closed: 0 % is the teacher "
        f"at {steps} steps, 100 % at full steps; it takes the teacher's two KIDs as they are.\n\n"
        f"![{study.name}]({picture})\n\n" + common.markdown(titles, lines)
    )
    if len(rows) > 1:
        differences = [
            [label(row), *cells(lambda m, row=row: row.minus(default, m))] for row in rows[1:]
        ]
        text += (
            "\nMinus the default (adherence in points), paired by training seed:\n\n"
            + common.markdown([titles[0], *titles[2:]], differences)
        )  # fmt: skip
    gone = [f"- {label(r)}, training seed {s}: {why}" for r in rows
            for s, why in r.collapsed.items()]  # fmt: skip
    text += f"\nA run has {COLLAPSE}.\n\n" + ("\n".join(gone) if gone else "None has.") + "\n"
    return text + LEGENDS[study.name]


def label(row: Row) -> str:
    v = row.variant
    return "default" if v.name == DEFAULT else f"{v.question}: {v.level}"


def settings(row: Row, base: Experiment) -> str:
    """What the default row is."""
    if row.variant.name != DEFAULT:
        return ""
    m = base.method
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
    names = [label(row) for row in rows]
    size = (8.5, 1.3 + 0.28 * len(rows))
    with common.figure(path, 2, size) as axes:
        for ax, (metric, title) in zip(axes, panels, strict=True):
            for which, style, text in (("full", "-", "teacher, full steps"),
                                       ("few", "--", "teacher, as few steps")):  # fmt: skip
                ax.axvline(teacher[which][metric].value, color="#70767f", ls=style, lw=1,
                           label=text)  # fmt: skip
            for y, row in enumerate(rows):
                colour = common.COLOURS[0 if row.variant.name == DEFAULT else 1]
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


Made = Mapping[str, Any]
Teacher = Mapping[str, Mapping[str, Estimate]]


def seeds_records(rows: Sequence[Row], teacher: Teacher, made: Made) -> list[claims.Claim]:
    row = rows[0]
    n, full = len(row.values), teacher["full"]
    lost = {s: full["adherence"].value - of["adherence"] for s, of in row.values.items()}
    failed = f"; {row.runs - n} more gave no pictures" if n < row.runs else ""
    note = f"n = training runs, t-interval over them, the teacher as measured{failed}"
    gap = note if math.isfinite(row.mean("kid_gap_closed").value) else NO_GAP
    diversity = (
        f"{note}; the teacher's at full steps {full['layout_diversity'].value:.3f}, at as few "
        f"steps {teacher['few']['layout_diversity'].value:.3f}"
    )
    gone = Estimate(float(len(row.collapsed)), math.nan, math.nan, 0, 0, row.runs)
    few = f"at full steps {full['adherence'].value:.3f}, student {row.mean('adherence').value:.3f}"
    return [
        claim("ladd_gap_closed",
              "share of the teacher's KID gap between few and full steps that the student closes",
              row.mean("kid_gap_closed"), made=made, n=n, goal=">= 0.8", note=gap),
        claim("ladd_adherence_drop", "adherence of the full-step teacher minus the student's",
              over_seeds(lost), made=made, n=n, goal="<= 0.02", note=f"{note}; {few}"),
        claim("ladd_collapsed_runs", "training runs that collapsed", gone, made=made,
              n=row.runs, goal="<= 0", unit="runs", note=f"n = training runs; {COLLAPSE}"),
        claim("ladd_layout_diversity", "layout diversity of the student relative to the truth",
              row.mean("layout_diversity"), made=made, n=n, note=diversity),
        claim("ladd_minutes", "wall time of a training run at the full Shapes budget",
              over_runs(row.minutes), made=made, n=row.runs, unit="min",
              note="n = training runs; steps alone, without teacher samples and without judging; "
              "other processes may have shared the machine"),
    ]  # fmt: skip


def convention_records(rows: Sequence[Row], teacher: Teacher, made: Made) -> list[claims.Claim]:
    ours, wrong = (next(r for r in rows if r.variant.name == name) for name in (DEFAULT, "wrong"))
    both = ours.mean("kid_gap_closed").value
    note = (
        f"n = training runs; the same runs in the right convention close {both:.3f}; adherence "
        f"{wrong.mean('adherence').value:.3f} against {ours.mean('adherence').value:.3f}; "
        f"{len(wrong.collapsed)} of {wrong.runs} collapsed"
    )
    return [
        claim("wrong_convention_gap_closed",
              "share of the KID gap that LADD closes with time and sign unflipped in training",
              wrong.mean("kid_gap_closed"), made=made, n=wrong.runs, note=note)
    ]  # fmt: skip


RECORDS: dict[str, Callable[[Sequence[Row], Teacher, Made], list[claims.Claim]]] = {
    "seeds": seeds_records,
    "convention": convention_records,
    "ablations": lambda rows, teacher, made: [],
}
