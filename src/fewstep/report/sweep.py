"""The page of a sweep, from the numbers in its sweep.json."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewstep.report.numbers import duration, shown, shown_difference
from fewstep.report.plots import COLOURS, COLOURS_DARK
from fewstep.report.results import Number
from fewstep.report.sweep_plots import bars, parallel, pareto
from fewstep.runs import write_atomic

STATES = {
    "complete": "complete", "pruned": "given up", "failed": "failed", "repeated": "repeated",
    "refused": "refused",
}  # fmt: skip
NONE = ("", "")
"""Value and interval of what is not there."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A trial in a table: texts of a value and its interval."""

    number: int
    name: str
    change: str
    state: str
    seeds: int
    score: tuple[str, str] = NONE
    diversity: tuple[str, str] = NONE
    gain: tuple[str, str] = NONE
    better: bool = False
    cost: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Again:
    """A finalist on new seeds."""

    name: str
    seeds: int
    sweep: tuple[str, str]
    afresh: tuple[str, str]
    curse: tuple[str, str]
    gain: tuple[str, str]
    verdict: str


def write_page(facts: Mapping[str, Any], path: Path) -> Path:
    """One self-contained file without any script."""
    environment = Environment(
        loader=PackageLoader("fewstep.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    rows = {row["number"]: row for row in facts["trials"]}
    shown_rows = [line(facts, rows[n]) for n in facts["ranking"]]
    text = environment.get_template("sweep.html.j2").render(
        facts=facts, score=facts["metrics"][facts["score"]],
        diversity=facts["metrics"][facts["diversity"]],
        counts=Counter(row["state"] for row in facts["trials"]), states=STATES,
        ranking=shown_rows, others=[line(facts, r) for r in rows.values() if r["why"]],
        fresh=[again(facts, own) for own in facts["fresh"]], winner=called(facts["winner"]),
        state_of_winner=state_of(facts),
        plots={"parallel": parallel(facts), "importance": bars(facts["importance"]),
               "pareto": pareto(facts)},
        front=[called(n) for n in facts["front"]],
        colours=COLOURS, colours_dark=COLOURS_DARK,
    )  # fmt: skip
    write_atomic(path, text.encode())
    return path


def called(n: int) -> str:
    return "the recipe" if n == 0 else f"trial {n}"


def state_of(facts: Mapping[str, Any]) -> str:
    """What is known of the winner."""
    if not facts["over"]:
        return "not run on new seeds yet"
    if facts["winner"] == 0:
        return "nothing beats it"
    holds = any(own["holds"] for own in facts["fresh"] if own["number"] == facts["winner"])
    return "better than the recipe" if holds else "its lead may be chance"


def line(facts: Mapping[str, Any], row: Mapping[str, Any]) -> Line:
    score, diversity = facts["score"], facts["diversity"]
    found = row["metrics"]
    return Line(
        number=row["number"], name=called(row["number"]), change=worded(row["change"]),
        state=STATES[row["state"]], seeds=len(row["seeds"]),
        score=value(found.get(score), facts["metrics"][score]["percent"]),
        diversity=value(found.get(diversity), facts["metrics"][diversity]["percent"]),
        gain=gained(row["gain"], facts), better=row["better"],
        cost="" if row["seconds"] is None else duration(row["seconds"]), why=row["why"],
    )  # fmt: skip


def again(facts: Mapping[str, Any], own: Mapping[str, Any]) -> Again:
    percent = facts["metrics"][facts["score"]]["percent"]
    if own["number"] == 0:
        verdict = own["why"] or "what others are held against"
    elif own["why"]:
        verdict = own["why"]
    else:
        verdict = "better than the recipe" if own["holds"] else "may be chance"
    return Again(
        name=called(own["number"]), seeds=len(own["seeds"]), sweep=value(own["sweep"], percent),
        afresh=value(own["afresh"], percent), curse=gained(own["curse"], facts),
        gain=gained(own["gain"], facts), verdict=verdict,
    )  # fmt: skip


def worded(change: Mapping[str, Any]) -> str:
    """A change in words; "as it is" for none."""
    told = [f"{key} = {short(own)}" for key, own in change.items()]
    return ", ".join(told) or "as it is"


def short(own: Any) -> str:
    return f"{own:.4g}" if isinstance(own, float) else str(own)


def number(estimate: Mapping[str, Any]) -> Number:
    """An estimate as the record has it."""
    low, high = (math.nan if estimate[key] is None else estimate[key] for key in ("low", "high"))
    centre = math.nan if estimate["value"] is None else estimate["value"]
    counts = (int(estimate[key]) for key in ("n_prompts", "n_seeds", "n_runs"))
    return Number(centre, low, high, *counts)


def value(estimate: Mapping[str, Any] | None, percent: bool) -> tuple[str, str]:
    return NONE if estimate is None else shown(number(estimate), percent)


def gained(estimate: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> tuple[str, str]:
    percent = facts["metrics"][facts["score"]]["percent"]
    return NONE if estimate is None else shown_difference(number(estimate), percent)
