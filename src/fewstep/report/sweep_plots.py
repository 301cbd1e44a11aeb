"""Plots of a sweep: parallel coordinates, importance of the fields, and score against diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fewstep.report.axes import CARD, INK, SOFT, empty, ink, inline, style
from fewstep.report.numbers import duration
from fewstep.report.plots import colour, ramp

WIDTH, HEIGHT = 760, 300
SMALL = 440
FIRST, RECIPE = colour(1), colour(0)
"""The winner's colour, and the recipe's."""
STEPS = 8
"""Shades by rank."""
LEAST, MOST = 30.0, 260.0
"""Areas of the marks of the cheapest and of the dearest trial."""


def parallel(facts: Mapping[str, Any]) -> str:
    """A line for each scored trial across what was varied to its score; "" without a space. The
    better, the nearer to the far end of the ramp; the recipe is dashed, and values that are words
    stand at equal distances."""
    keys = list(facts["space"])
    rows = [r for r in facts["trials"] if r["seeds"]]
    if not keys or not rows:
        return ""
    columns = {key: scaled([r["values"][key] for r in rows], facts["space"][key]) for key in keys}
    scores = [r["metrics"][facts["score"]]["value"] for r in rows]
    columns[facts["metrics"][facts["score"]]["label"]] = scaled(scores, "")
    order = np.argsort(np.argsort([s if facts["better"] == "lower" else -s for s in scores]))
    drawn: list[str] = []
    with style(salt=repr(facts["trials"])):
        figure, axes = empty(WIDTH, HEIGHT)
        axes.set_xlim(-0.15, len(columns) - 0.85)
        axes.set_ylim(-0.08, 1.08)
        axes.grid(visible=False)
        for i, row in enumerate(rows):
            best, recipe = row["number"] == facts["winner"], row["number"] == 0
            css = ramp(STEPS - round(STEPS * order[i] / len(rows)), STEPS)
            css = FIRST if best else RECIPE if recipe else css
            drawn.append(css)
            axes.plot(
                range(len(columns)), [own.places[i] for own in columns.values()], color=ink(css),
                linewidth=3 if best else 2 if recipe else 1.2, zorder=3 if best or recipe else 2,
                linestyle=(0, (5, 3)) if recipe else "-", gid=told(row, facts),
            )  # fmt: skip
        for x, own in enumerate(columns.values()):
            axis(axes, x, own)
        axes.set_yticks([])
        axes.set_xticks(range(len(columns)), [".".join(key.split(".")[-2:]) for key in columns])
        title = "Trials across what was varied, to their score"
        return inline(figure, title, drawn, tips={told(row, facts) for row in rows})


@dataclass(frozen=True)
class Scaled:
    """Values of one axis in 0 .. 1, and the texts along it by their place."""

    places: Sequence[float]
    ticks: Mapping[float, str]


def scaled(values: Sequence[Any], text: str) -> Scaled:
    """`text` is the range as it was asked for."""
    if any(not isinstance(v, int | float) or isinstance(v, bool) for v in values):
        names = sorted({str(v) for v in values})
        where = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
        return Scaled([where[str(v)] for v in values], {y: name for name, y in where.items()})
    log = text.endswith(":log") and min(values) > 0  # a command may propose what it likes
    numbers = np.log(values) if log else np.asarray(values, float)
    low, high = float(numbers.min()), float(numbers.max())
    spread = (high - low) or 1.0
    back = np.exp if log else np.asarray
    ticks = {0.0: f"{back(low):.3g}", 1.0: f"{back(high):.3g}"} if high > low else {
        0.0: f"{back(low):.3g}"
    }  # fmt: skip
    return Scaled([float(v) for v in (numbers - low) / spread], ticks)


def axis(axes: Axes, x: int, own: Scaled) -> None:
    axes.axvline(x, 0.05, 0.95, color=ink(SOFT), linewidth=1, zorder=1)
    for y, text in own.ticks.items():
        axes.annotate(
            text, (x, y), (5, 0), textcoords="offset points", va="center", color=ink(INK),
            fontsize=10, zorder=4,
        )  # fmt: skip


def told(row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A tool tip."""
    name = "recipe" if row["number"] == 0 else f"trial {row['number']}"
    score = row["metrics"][facts["score"]]["value"]
    return f"{name}: {facts['metrics'][facts['score']]['label']} {score:.4g}"


def bars(importance: Mapping[str, float]) -> str:
    """A bar for each field; "" where nothing is known."""
    if not importance:
        return ""
    names = sorted(importance, key=lambda key: importance[key])
    with style(salt=repr(importance)):
        figure, axes = empty(SMALL, 60 + 28 * len(names))
        axes.barh(names, [100 * importance[n] for n in names], color=ink(RECIPE), height=0.55)
        axes.set_xlabel("share of the importance, %")
        axes.grid(visible=False)
        axes.tick_params("y", labelcolor=ink(INK))
        return inline(figure, "Importance of what was varied", [RECIPE])


def pareto(facts: Mapping[str, Any]) -> str:
    """Score against diversity, the area of a mark by the seconds of a run; the front is joined. ""
    where no complete trial has a diversity."""
    score, diversity = facts["score"], facts["diversity"]
    rows = [
        r for r in facts["trials"]
        if r["state"] == "complete" and r["metrics"][diversity]["value"] is not None
    ]  # fmt: skip
    if not rows:
        return ""
    cost = np.array([r["seconds"] for r in rows])
    areas = LEAST + (MOST - LEAST) * (cost - cost.min()) / (np.ptp(cost) or 1)
    tips: set[str] = set()
    with style(salt=repr((facts["front"], rows))):
        figure, axes = empty(SMALL, HEIGHT)
        axes.margins(0.12)
        axes.set_xlabel(facts["metrics"][diversity]["label"])
        axes.set_ylabel(facts["metrics"][score]["label"])
        places = {
            r["number"]: (r["metrics"][diversity]["value"], r["metrics"][score]["value"])
            for r in rows
        }
        ahead = sorted(places[n] for n in facts["front"])
        axes.plot([x for x, _ in ahead], [y for _, y in ahead], color=ink(SOFT), linewidth=1)
        for row, area in zip(rows, areas, strict=True):
            n = row["number"]
            x, y = places[n]
            tip = f"{told(row, facts)}, {duration(row['seconds'])} a run"
            tips.add(tip)
            css = FIRST if n == facts["winner"] else RECIPE if n in facts["front"] else SOFT
            for metric, lines in ((score, axes.vlines), (diversity, axes.hlines)):
                e = row["metrics"][metric]
                if e["low"] is not None:
                    lines(x if metric == score else y, e["low"], e["high"], ink(css), alpha=0.35,
                          linewidth=1)  # fmt: skip
            axes.scatter(x, y, s=area, color=ink(css), edgecolors=ink(CARD), zorder=3, gid=tip)
            axes.annotate(
                "recipe" if n == 0 else str(n), (x, y), (7, 5), textcoords="offset points",
                color=ink(INK), fontsize=10, zorder=4,
            )  # fmt: skip
        title = f"{facts['metrics'][score]['label']} against diversity"
        return inline(figure, title, [FIRST, RECIPE], tips=tips)
