"""What is made of runs that were made to collapse: a page and records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.collapse_faults import HEALTHY
from benchmarks.common import claim
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate, over_runs

Result = Mapping[str, Any]


def first_alarm(result: Result) -> Mapping[str, Any] | None:
    return min(result["alarms"], key=lambda alarm: alarm["step"], default=None)


def kid_shows(result: Result) -> int | None:
    """The step from which on KID is above that of the start in two looks one after the other."""
    rows = result["kid"]
    worse = [row["low"] is None or row["low"] > 0 for row in rows]
    return next((rows[i]["step"] for i in range(len(rows) - 1) if worse[i] and worse[i + 1]), None)


def last_kid(result: Result) -> float:
    found = result["kid"][-1]["kid"]
    return math.nan if found is None else found


def pick(results: Sequence[Result], fault: str, *, back: bool) -> dict[int, Result]:
    """By training seed."""
    return {r["seed"]: r for r in results if r["fault"] == fault and r["back"] == back}


def cured(results: Sequence[Result]) -> dict[str, Estimate]:
    """KID at the end of a run that may go back, minus that of the healthy run of its seed."""
    well = pick(results, HEALTHY, back=False)
    found: dict[str, Estimate] = {}
    for fault in dict.fromkeys(r["fault"] for r in results if r["back"]):
        own = pick(results, fault, back=True)
        found[fault] = over_runs([last_kid(own[s]) - last_kid(well[s]) for s in own])
    return found


def records(results: Sequence[Result], made: Mapping[str, Any]) -> list[claims.Claim]:
    recorded = [r for r in results if not r["back"]]
    ill = [r for r in recorded if r["fault"] != HEALTHY]
    well = [r for r in recorded if r["fault"] == HEALTHY]
    alarms = {id(r): first_alarm(r) for r in recorded}
    seen = [(r, alarm) for r in ill if (alarm := alarms[id(r)]) is not None]
    after = over_runs([float(alarm["step"] - r["begins"]) for r, alarm in seen])
    before_kid = [s - a["step"] for r, a in seen if (s := kid_shows(r)) is not None]
    false = sum(alarms[id(r)] is not None for r in well)
    share = [r["look_seconds"] / r["recipe_every"] / r["step_seconds"] for r in well]
    [back] = cured(results).values()
    plain = [last_kid(r) for r in recorded if any(
        other["back"] and (other["fault"], other["seed"]) == (r["fault"], r["seed"])
        for other in results
    )]  # fmt: skip
    healthy = over_runs([last_kid(r) for r in well])
    values = {
        "collapse_detection_steps": (after, len(seen), (
            f"n = runs of five faults with an alarm, of {len(ill)}; {false} alarms in {len(well)} "
            f"healthy runs; KID shows {len(before_kid)} of them, in the mean "
            f"{mean(before_kid):.0f} steps after the alarm"
        )),
        "rollback_kid_change": (back, len(well), (
            "n = training seeds, t-interval; student rate x 20, paired with the healthy run of "
            f"the seed (KID {healthy.value:.4f}, {healthy.low:.4f} to {healthy.high:.4f}); "
            f"without going back KID is {mean(plain):.4f}"
        )),
        "probe_overhead": (over_runs(share), len(share), (
            "n = healthy runs; a look over the steps between two looks of the recipe"
        )),
    }  # fmt: skip
    return [
        claim(name, PLANNED["watch"][name][0], value, area="watch", made=made, n=n,
              goal=PLANNED["watch"][name][1], note=note,
              unit="steps" if name == "collapse_detection_steps" else "")
        for name, (value, n, note) in values.items()
    ]  # fmt: skip


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def page(path: Path, command: str, results: Sequence[Result]) -> None:
    rows = [row_of(r) for r in sorted(results, key=lambda r: (r["fault"] != HEALTHY, r["fault"],
                                                             r["back"], r["seed"]))]  # fmt: skip
    columns = ["run", "training seed", "first alarm", "sign", "KID shows it", "KID at the start",
               "KID at the end", "went back"]  # fmt: skip
    differences = "".join(
        f"\nWith {fault} and going back, KID at the end is {pages.shown(e)} above that of the "
        f"healthy run of its training seed.\n"
        for fault, e in cured(results).items()
    )
    begins, steps = results[0]["begins"], results[0]["steps"]
    pages.write_text(path, command, (
        f"# Collapses, and when they are seen\n\n`ladd_shapes_demo` for {steps} steps; the student "
        f"first moves after step {begins}. Alarms of [the watch](health.md) beside KID against "
        "the truth, at the same steps. Runs that go back do as the recipe has it; in the others "
        "alarms are only recorded, so that the collapse goes on.\n\n"
        f"{pages.markdown(columns, rows)}{differences}"
    ))  # fmt: skip


def row_of(r: Result) -> list[str]:
    alarm, shows = first_alarm(r), kid_shows(r)
    went = [f"{a['step']} to {a['back_to']}" for a in r["alarms"] if a["back_to"] is not None]
    name = f"{r['fault']}, goes back" if r["back"] else r["fault"]
    return [
        name, str(r["seed"]), "none" if alarm is None else f"step {alarm['step']}: {alarm['name']}",
        "" if alarm is None else alarm["sign"], "no" if shows is None else f"step {shows}",
        number(r["kid"][0]["kid"]), number(r["kid"][-1]["kid"]),
        ", ".join(dict.fromkeys(went)) or "",
    ]  # fmt: skip


def number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
