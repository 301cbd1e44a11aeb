"""What the D-OPSD studies claim. A claim stands on every run that was trained, or is null."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common import claim
from benchmarks.dopsd_memory import STATES, growth
from benchmarks.dopsd_rows import Row, main_row
from benchmarks.sda_records import number
from benchmarks.study_rows import NOTHING
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

Made = Mapping[str, Any]
SUCCESS = (
    "a success shows everything asked, the concept among it, and not where a training picture has "
    "it"
)
OVER = "t-interval over the concepts, each the mean of its training seeds"
YARDSTICKS = ("sft", "dreambooth", "pso", "offpolicy")


def record(name: str, e: Estimate, n: int, note: str, made: Made) -> claims.Claim:
    text, goal, _ = PLANNED["dopsd"][name]
    return claim(name, text, e, made=made, n=n, goal=goal, note=note, area="dopsd")


def of_row(
    name: str, row: Row | None, view: str, metric: str, made: Made, *, sign: int = 1,
    over: Mapping[str, float] | None = None, note: str = "",
) -> claims.Claim:  # fmt: skip
    """The planned record of this name over all runs of a row, or null where one lacks it; `sign`
    turns a change into a loss, `over` makes it a share."""
    if row is None:
        return record(name, NOTHING, 0, "no run of it is there", made)
    if missing := row.missing(view, metric):
        (concept, seed), why = next(iter(missing.items()))
        told = f"{len(missing)} of {len(row.results)} runs lack the number (first: {concept}, " \
               f"training seed {seed}: {why})"  # fmt: skip
        return record(name, NOTHING, len(row.results), told, made)
    e = row.of(view, metric) if over is None else row.over(over, view, metric)
    if sign < 0:
        e = Estimate(-e.value, -e.high, -e.low, e.n_prompts, e.n_seeds, e.n_runs)
    said = "; ".join(part for part in ("n = runs", OVER, note) if part)
    if not math.isfinite(e.value):
        said += "; the share has no value, for the teacher draws none of the concepts"
    return record(name, e, len(row.results), said, made)


def methods_records(
    rows: Sequence[Row], teacher: Mapping[str, float], made: Made
) -> list[claims.Claim]:  # fmt: skip
    main, named = main_row(rows), {row.arm.name: row for row in rows}
    known = ", ".join(f"{name} {x:.2f}" for name, x in teacher.items())
    found = [
        of_row("concept_success_ratio", main, "few", "success", made, over=teacher,
               note=f"sum over concepts; teacher: {known}; {SUCCESS}"),
        of_row("old_prompt_adherence_drop", main, "few", "adherence_change", made, sign=-1),
        of_row("old_prompt_kid_change", main, "few", "kid_change", made),
        of_row("concept_layout_diversity", main, "few", "concept_layouts", made,
               note="1 is the untouched student's"),
        of_row("sft_4step_adherence_drop", named.get("sft"), "few", "adherence_change", made,
               sign=-1),
    ]  # fmt: skip
    for name in YARDSTICKS:
        row = named.get(name)
        note = SUCCESS
        if main is not None and row is not None:
            note += f"; D-OPSD minus it {number(main.minus(row, 'few', 'success'))}"
        found.append(of_row(f"{name}_concept_success", row, "few", "success", made, note=note))
    return found


def teacher_record(e: Estimate, concepts: int, pictures: int, made: Made) -> claims.Claim:
    note = f"n = concepts, {pictures} pictures each; t-interval over concepts; {SUCCESS}"
    return record("teacher_concept_success", e, concepts, note, made)


def memory_record(found: Mapping[str, Mapping[str, Any]], made: Made) -> claims.Claim:
    peak = growth(found, "peak_mb")
    held = growth(found, "activations_mb")
    most = ", ".join(
        f"{k}: {found[f'{k} states']['peak_mb']:.0f} MB" for k in STATES
    )  # fmt: skip
    note = (
        f"two steps in a fresh process for each number of states; the resident peak of the whole "
        f"process grows {peak:.3f} times ({most})"
    )
    return record("memory_growth_with_k", Estimate(held, math.nan, math.nan, 0, 0), 1, note, made)
