"""What each study claims of its rows. A claim stands on every run that was trained, or is null."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.common import claim
from benchmarks.study_plan import DEFAULT
from benchmarks.study_rows import COLLAPSE, NOTHING, Row, over_seeds

from fewstep import claims
from fewstep.evaluate.statistics import Estimate, over_runs

NO_GAP = "the teacher at few steps is no worse in KID than at full steps: there is no gap to close"

Made = Mapping[str, Any]
Teacher = Mapping[str, Mapping[str, Estimate]]


def whole(row: Row, metric: str, note: str) -> tuple[Estimate, str]:
    """The mean over all training runs with its note, or nothing where a run lacks the number."""
    missing = row.missing(metric)
    if not missing:
        return row.mean(metric), note
    if metric == "kid_gap_closed" and row.values.keys() == missing.keys():
        return NOTHING, NO_GAP
    named = "; ".join(f"training seed {seed}: {why}" for seed, why in sorted(missing.items()))
    return NOTHING, f"{len(missing)} of {row.runs} runs lack the number ({named})"


def seeds_records(rows: Sequence[Row], teacher: Teacher, made: Made) -> list[claims.Claim]:
    row, full = rows[0], teacher["full"]
    n = row.runs
    note = "n = training runs, t-interval over them, the teacher as measured"
    gap, gap_note = whole(row, "kid_gap_closed", note)
    spread, spread_note = whole(
        row, "layout_diversity",
        f"{note}; the teacher's at full steps {full['layout_diversity'].value:.3f}, at as few "
        f"steps {teacher['few']['layout_diversity'].value:.3f}",
    )  # fmt: skip
    lost = {s: full["adherence"].value - of["adherence"] for s, of in row.values.items()}
    drawn, drawn_note = whole(
        row, "adherence",
        f"{note}; at full steps {full['adherence'].value:.3f}, student "
        f"{row.mean('adherence').value:.3f}",
    )  # fmt: skip
    drop = over_seeds(lost) if math.isfinite(drawn.value) else NOTHING
    gone = Estimate(float(len(row.collapsed)), math.nan, math.nan, 0, 0, n)
    return [
        claim("ladd_gap_closed",
              "share of the teacher's KID gap between few and full steps that the student closes",
              gap, made=made, n=n, goal=">= 0.8", note=gap_note),
        claim("ladd_adherence_drop", "adherence of the full-step teacher minus the student's",
              drop, made=made, n=n, goal="<= 0.02", note=drawn_note),
        claim("ladd_collapsed_runs", "training runs that collapsed", gone, made=made,
              n=n, goal="<= 0", unit="runs", note=f"n = training runs; {COLLAPSE}"),
        claim("ladd_layout_diversity", "layout diversity of the student relative to the truth",
              spread, made=made, n=n, note=spread_note),
        claim("ladd_minutes", "wall time of the training steps of a run at the full Shapes budget",
              over_runs(row.minutes), made=made, n=n, unit="min",
              note="n = training runs, two at once; without teacher samples, which are drawn "
              "once for all runs, and without judging"),
    ]  # fmt: skip


def convention_records(rows: Sequence[Row], teacher: Teacher, made: Made) -> list[claims.Claim]:
    ours, wrong = (next(r for r in rows if r.variant.name == name) for name in (DEFAULT, "wrong"))
    closed, _ = whole(ours, "kid_gap_closed", "")
    right = f"close {closed.value:.3f}" if math.isfinite(closed.value) else "have no such mean"
    gap, note = whole(
        wrong, "kid_gap_closed",
        f"n = training runs; the same runs in the right convention {right}; adherence "
        f"{wrong.mean('adherence').value:.3f} against {ours.mean('adherence').value:.3f}; "
        f"{len(wrong.collapsed)} of {wrong.runs} collapsed",
    )  # fmt: skip
    return [
        claim("wrong_convention_gap_closed",
              "share of the KID gap that LADD closes with time and sign unflipped in training",
              gap, made=made, n=wrong.runs, note=note)
    ]  # fmt: skip


RECORDS: dict[str, Callable[[Sequence[Row], Teacher, Made], list[claims.Claim]]] = {
    "seeds": seeds_records,
    "convention": convention_records,
    "ablations": lambda rows, teacher, made: [],
}
