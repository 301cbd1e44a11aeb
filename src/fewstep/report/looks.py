"""What a gauge has found, as plots and tables: won on the concept, lost outside of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewstep.report.collect import Series
from fewstep.report.health import Band, State
from fewstep.report.numbers import MINUS, TIMES
from fewstep.report.plots import COLOURS, Line, Panel, colour, ramp
from fewstep.report.tables import Cell
from fewstep.report.tuning import Gauge, Look
from fewstep.report.verdict import Verdict

QUALITIES = {
    "sharpness": "Sharpness, untouched\u00a0=\u00a01",
    "high_frequency": "Fine detail, untouched\u00a0=\u00a01",
    "saturation": "Saturation, untouched\u00a0=\u00a01",
    "shift": "Shift of the pictures, untouched\u00a0=\u00a00",
}
"""Titles of plots, of what a look tells at each number of steps."""
COLUMNS = {
    "adherence": "Adherence", "adherence_before": "Adherence, untouched", "sharpness": "Sharpness",
    "high_frequency": "Fine detail", "saturation": "Saturation", "shift": "Shift", "loss": "Loss",
}  # fmt: skip
SHARES = ("adherence", "adherence_before")
CONCEPT, LOSS = "Concept score", "Loss outside of the concept"


@dataclass(frozen=True)
class AtSteps:
    """What one look found outside of the concept, a row for each number of steps."""

    step: int
    columns: Sequence[str]
    rows: Sequence[tuple[int, Sequence[Cell]]]


@dataclass(frozen=True)
class Told:
    """A look in a line of a table; `word` says what it came to."""

    step: int
    cells: Sequence[Cell]
    word: str
    state: State | None


def verdict_of(gauge: Gauge) -> Verdict:
    """Which weights are kept, and why. Looks have no intervals, so it says no more than that."""
    kept = at_step(gauge, gauge.kept)
    ended = f" The gauge ended the run: {gauge.stopped}." if gauge.stopped else ""
    if kept.step == 0:
        return Verdict("Nothing is kept", f"The best is step 0: {gauge.why}.{ended}")
    return Verdict(
        f"Step {kept.step} is kept",
        f"{gauge.why[:1].upper()}{gauge.why[1:]}. Its concept score is {written(kept.concept)}, "
        f"its loss outside of the concept {written(kept.loss)}; no look has an interval.{ended}",
    )


def at_step(gauge: Gauge, step: int) -> Look:
    return next(look for look in gauge.looks if look.step == step)


def panels_of(gauge: Gauge) -> list[Panel]:
    """Concept and loss with the look that is kept; adherence and quality by number of steps."""
    kept = [at_step(gauge, gauge.kept)]
    bands = (
        Band(-math.inf, gauge.tolerance, "within", f"up to {gauge.tolerance:g}", "good"),
        Band(gauge.collapse, math.inf, "collapsed", f"above {gauge.collapse:g}", "bad"),
    )

    def own(of: Callable[[Look], float]) -> list[Line]:
        every = Line("each look", over(gauge.looks, of), colour(0))
        return [every, Line("kept", over(kept, of), colour(1))]

    found = [
        Panel(title=CONCEPT, lines=own(lambda look: look.concept)),
        Panel(title=LOSS, lines=own(lambda look: look.loss), bands=bands),
    ]
    if lines := by_steps(gauge, "adherence", "{} steps"):
        before = by_steps(gauge, "adherence_before", "{}, untouched", dashed=True)
        found.append(Panel(title="Adherence", lines=[*lines, *before], share=True))
    for key, title in QUALITIES.items():
        if lines := by_steps(gauge, key, "{} steps"):
            found.append(Panel(title=title, lines=lines))
    return found


def overlaid(gauges: Mapping[str, Gauge]) -> list[Panel]:
    """Concept and loss of several runs; a run has its colour in both."""
    values: dict[str, Callable[[Look], float]] = {
        CONCEPT: lambda look: look.concept, LOSS: lambda look: look.loss,
    }  # fmt: skip
    return [
        Panel(title=title, lines=[
            Line(run, over(gauge.looks, of), colour(i), dashed=i >= len(COLOURS))
            for i, (run, gauge) in enumerate(gauges.items())
        ])
        for title, of in values.items()
    ]  # fmt: skip


def over(looks: Sequence[Look], of: Callable[[Look], float]) -> Series:
    """A value of each look against its step."""
    return Series(
        np.array([look.step for look in looks], dtype=float),
        np.array([[of(look)] for look in looks], dtype=float),
    )


def by_steps(gauge: Gauge, key: str, name: str, *, dashed: bool = False) -> list[Line]:
    """A line for each number of steps; none where no look tells this."""
    counts = sorted({n for look in gauge.looks for n, own in look.at.items() if key in own})
    return [
        Line(
            name.format(n),
            over(gauge.looks, lambda look, n=n: look.at.get(n, {}).get(key, math.nan)),
            ramp(i, len(counts)),
            dashed,
        )
        for i, n in enumerate(counts)
    ]


def table_of(gauge: Gauge) -> AtSteps:
    """The look that is kept; where that is the model before training, the last one."""
    look = at_step(gauge, gauge.kept) if gauge.kept else gauge.looks[-1]
    keys = [key for key in COLUMNS if any(key in own for own in look.at.values())]
    rows = [(n, [cell(key, own.get(key)) for key in keys]) for n, own in sorted(look.at.items())]
    return AtSteps(look.step, [COLUMNS[key] for key in keys], rows)


def cell(key: str, value: float | None) -> Cell:
    if value is None:
        return Cell("n/a")
    return Cell(f"{100 * value:.1f} %" if key in SHARES else written(value), "", value)


def told(gauge: Gauge) -> list[Told]:
    """Every look."""
    back = {own.step: own for own in gauge.returned}
    found: list[Told] = []
    for look in gauge.looks:
        cells = [cell("concept", look.concept), cell("loss", look.loss)]
        if own := back.get(look.step):
            word, state = f"collapsed: back to step {own.to}, rates {TIMES} {own.rate:g}", "bad"
        elif look.step in gauge.collapsed:
            word, state = "collapsed", "bad"
        elif look.step == gauge.kept:
            word, state = "kept", "good"
        elif look.step == 0:
            word, state = "before training", None
        else:
            word, state = ("", None) if look.loss <= gauge.tolerance else ("not within", None)
        found.append(Told(look.step, cells, word, state))
    return found


def written(value: float) -> str:
    return f"{value:.3f}".replace("-", MINUS)
