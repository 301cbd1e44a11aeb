"""What each SDA study claims. A claim stands on every run that was trained, or is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import claim
from benchmarks.sda_results import Kind
from benchmarks.sda_rows import Row, level
from benchmarks.study_plan import Study
from benchmarks.study_rows import NOTHING
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.evaluate.story import SPREADS

Made = Mapping[str, Any]
LAYOUT = "layout_diversity"
NAMES = {LAYOUT: "layout", "distance": "LPIPS-like", "vendi": "Vendi"}
"""What a share is of; LPIPS-like is the distance of the features of Shapes."""
ALLOWED = 0.05
"""Adherence that a way without training may lose, even where the adapter loses less."""
RULE = (
    "the largest layout share among the ways whose adherence falls by no more than the adapter's "
    f"(training seed 0) or {100 * ALLOWED:.0f} points, whichever is more; settings are chosen on "
    "the prompts that they are told on, which flatters them"
)


@dataclass(frozen=True, kw_only=True)
class Told:
    """One study on one student, as its table has it."""

    on: str
    """Steps of the student."""
    study: Study
    rows: Sequence[Row]
    prompts: int
    seeds: int


def number(e: Estimate) -> str:
    if not math.isfinite(e.value):
        return "not defined"
    if not math.isfinite(e.low):
        return f"{e.value:.3g}"
    return f"{e.value:.3g} ({e.low:.3g} to {e.high:.3g})"


def basis(told: Told, row: Row) -> str:
    """What n is and what the interval is over."""
    where = f"{told.on}-step student, {told.prompts} test prompts x {told.seeds} seeds"
    if row.runs == 1:
        return f"n = prompts; {where}; paired bootstrap over prompts, one training run"
    return (
        f"n = training runs of {told.study.base.loop.steps} steps; {where}; mean and t-interval "
        "over runs, which share the prompts and the student; the runs' own intervals of the layout "
        "share over prompts lie between "
        + between(row.by_seed("shares", LAYOUT).values())
    )  # fmt: skip


def between(found: Any) -> str:
    """The lowest and the highest bound of several intervals."""
    bounds = [x for e in found for x in (e.low, e.high) if math.isfinite(x)]
    return f"{min(bounds):.3g} and {max(bounds):.3g}" if bounds else "bounds that are not known"


def shares(row: Row) -> str:
    return ", ".join(f"{NAMES[key]} {number(row.of('shares', key))}" for key in SPREADS)


def whole(row: Row, kind: Kind, metric: str, note: str) -> tuple[Estimate, str]:
    """The number over all runs with its note, or nothing where a run lacks it."""
    missing = row.missing(kind, metric)
    if not missing:
        return row.of(kind, metric), note
    named = "; ".join(
        f"training seed {seed}: {why}" if seed is not None else why
        for seed, why in missing.items()
    )  # fmt: skip
    return NOTHING, f"{len(missing)} of {row.runs} runs lack the number ({named})"


def record(
    name: str, told: Told, row: Row, kind: Kind, metric: str, made: Made, note: str = "",
    sign: int = 1,
) -> claims.Claim:  # fmt: skip
    """The planned record of this name; `sign` turns a change into a loss."""
    text, goal, _ = PLANNED["sda"][name]
    e, said = whole(row, kind, metric, "; ".join(part for part in (basis(told, row), note) if part))
    if sign < 0:
        e = Estimate(-e.value, -e.high, -e.low, e.n_prompts, e.n_seeds, e.n_runs)
    n = row.runs if row.runs > 1 else told.prompts
    return claim(name, text, e, made=made, n=n, goal=goal, note=said, area="sda")


def costs(row: Row) -> str:
    """What an adapter changes besides diversity."""
    return (
        f"KID {number(row.of('changes', 'kid'))}, adherence "
        f"{number(row.of('changes', 'adherence'))}, sharpness "
        f"{number(row.of('relative', 'sharpness'))} and high frequencies "
        f"{number(row.of('relative', 'high_frequency'))} as shares of the student's"
    )


def seeds_records(told: Sequence[Told], made: Made, results: Path) -> list[claims.Claim]:
    [one] = told
    row = one.rows[0]
    note = f"shares: {shares(row)}; changes: {costs(row)}"
    return [record("gap_recovered_4step", one, row, "shares", LAYOUT, made, note)]


def seeds8_records(told: Sequence[Told], made: Made, results: Path) -> list[claims.Claim]:
    [one] = told
    row = one.rows[0]
    return [
        record("gap_recovered", one, row, "shares", LAYOUT, made, f"shares: {shares(row)}"),
        record("kid_change", one, row, "changes", "kid", made,
               at_four(results, "changes", "kid")),
        record("adherence_drop", one, row, "changes", "adherence", made,
               at_four(results, "changes", "adherence", -1), sign=-1),
        record("sharpness_change", one, row, "relative", "sharpness", made,
               f"high frequencies {number(row.of('relative', 'high_frequency'))}; "
               + at_four(results, "relative", "sharpness")),
    ]  # fmt: skip


def at_four(results: Path, kind: Kind, metric: str, sign: int = 1) -> str:
    """The same figure of the 4-step student, from the table of "seeds"."""
    path = results / "tables" / "sda_seeds.json"
    if not path.exists():
        return "the 4-step student has no table yet"
    row = json.loads(path.read_bytes())["students"][0]["rows"][0]
    value = Estimate.from_json(row[kind][metric]).value
    return f"4-step student {sign * value:.3g}, {row['runs']} runs"


def ablations_records(told: Sequence[Told], made: Made, results: Path) -> list[claims.Claim]:
    [one] = told
    found: list[claims.Claim] = []
    for name, which, other in (
        ("card_formula_gap_recovered", "card", "straight"),
        ("image_free_gap_recovered", "own", "pictures"),
    ):
        row, against = level(one.rows, which), level(one.rows, other)
        note = (
            f"shares: {shares(row)}; changes: {costs(row)}; {against.label} has layout "
            f"{number(against.of('shares', LAYOUT))}, adherence "
            f"{number(against.of('changes', 'adherence'))}"
        )
        found.append(record(name, one, row, "shares", LAYOUT, made, note))
    return found


def adapter_of(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.name == "adapter"), None)


def best_yardstick(rows: Sequence[Row]) -> Row | None:
    """By `RULE`; None where no way is allowed."""
    adapter = adapter_of(rows)
    drop = -adapter.of("changes", "adherence").value if adapter else math.nan
    most = max(drop, ALLOWED) if math.isfinite(drop) else ALLOWED
    allowed = [
        row for row in rows
        if row.name != "adapter" and -row.of("changes", "adherence").value <= most
        and math.isfinite(row.of("shares", LAYOUT).value)
    ]  # fmt: skip
    return max(allowed, key=lambda row: row.of("shares", LAYOUT).value, default=None)


def yardsticks_records(told: Sequence[Told], made: Made, results: Path) -> list[claims.Claim]:
    """Of the student with most steps; the others are in the note."""
    last, *others = sorted(told, key=lambda one: -int(one.on))
    best = best_yardstick(last.rows)
    text, goal, _ = PLANNED["sda"]["best_yardstick_gap_recovered"]
    if best is None:
        return [
            claim("best_yardstick_gap_recovered", text, NOTHING, made=made, n=last.prompts,
                  goal=goal, note=f"no way is allowed: {RULE}", area="sda")
        ]  # fmt: skip
    parts = [f"{best.label}, {best.results[0].calls} model calls; shares: {shares(best)}", RULE]
    if adapter := adapter_of(last.rows):
        parts.append(f"the adapter has layout {number(adapter.of('shares', LAYOUT))}")
    for one in others:
        own = best_yardstick(one.rows)
        said = "none" if own is None else f"{own.label}, {number(own.of('shares', LAYOUT))}"
        parts.append(f"{one.on}-step student: {said}")
    return [record("best_yardstick_gap_recovered", last, best, "shares", LAYOUT, made,
                   "; ".join(parts))]  # fmt: skip


def strengths_records(told: Sequence[Told], made: Made, results: Path) -> list[claims.Claim]:
    return []


RECORDS = {
    "seeds": seeds_records,
    "seeds8": seeds8_records,
    "ablations": ablations_records,
    "yardsticks": yardsticks_records,
    "strengths": strengths_records,
}
"""By study: from its tables and the folder of results to records."""
