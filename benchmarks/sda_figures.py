"""Figures of the SDA studies: what comes back beside what it costs, run by run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pages
from benchmarks.sda_records import LAYOUT, NAMES, Told
from benchmarks.sda_results import Kind
from benchmarks.sda_rows import Row
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fewstep.evaluate.statistics import Estimate
from fewstep.evaluate.story import SPREADS
from fewstep.report.plots import COLOURS

Panel = tuple[Kind, str, str]
"""What a panel shows of a row, and its title."""
SHARE_PANELS: tuple[Panel, ...] = tuple(
    ("shares", key, f"share of the gap: {NAMES[key]}")
    for key in SPREADS
)  # fmt: skip
COST_PANELS: tuple[Panel, ...] = (
    ("shares", LAYOUT, "share of the layout gap"),
    ("metrics", "adherence", "adherence"),
    ("metrics", "kid", "KID"),
)
GOAL = 0.8
GREY = "#70767f"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One study on one student with what everything is held against."""

    told: Told
    known: Mapping[str, Mapping[str, Estimate]]
    """Metrics of true pictures, teacher at full and at few steps, and student, in this order."""

    def metric(self, which: int, metric: str) -> float:
        return list(self.known.values())[which][metric].value


FULL, STUDENT = 1, 3
"""Places in `Shown.known`."""


def write_figure(name: str, students: Sequence[Shown], path: Path) -> None:
    if name == "strengths":
        pareto(students, path)
    else:
        strips(students, SHARE_PANELS if name.startswith("seeds") else COST_PANELS, path)


def strips(students: Sequence[Shown], panels: Sequence[Panel], path: Path) -> None:
    """A line for each row: its runs as dots, their mean and interval; teacher and student beside
    where the panel is of a metric and there is one student."""
    rows = [(one.told.on, row) for one in students for row in one.told.rows]
    several = len(students) > 1
    names = [f"{on} steps, {row.label}" if several else row.label for on, row in rows]
    with pages.figure(path, len(panels), (10.5, 1.6 + 0.28 * len(rows))) as axes:
        for ax, (kind, metric, title) in zip(axes, panels, strict=True):
            references(ax, students, kind, metric)
            for y, (_, row) in enumerate(rows):
                strip(ax, y, row, kind, metric)
            ax.set_yticks(range(len(rows)), names if ax is axes[0] else [""] * len(rows))
            ax.set_ylim(len(rows) - 0.5, -0.5)
            ax.set_xlabel(title)
        lines = labelled(axes)
        axes[0].figure.legend(lines.values(), lines, loc="outside upper right", ncols=3)


def labelled(axes: Sequence[Axes]) -> dict[str, Artist]:
    """What a legend of all panels explains: each label once, for not every panel has every line."""
    return {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }


def references(ax: Axes, students: Sequence[Shown], kind: Kind, metric: str) -> None:
    if kind == "shares":
        ax.axvline(0, color=GREY, ls=":", lw=1, label="student")
        ax.axvline(1, color=GREY, ls="-", lw=1, label="teacher, full steps")
        ax.axvline(GOAL, color=COLOURS[2], ls="--", lw=1, label="goal")
    elif len(students) == 1:
        for which, style, label in ((STUDENT, ":", "student"), (FULL, "-", "teacher, full steps")):
            ax.axvline(
                students[0].metric(which, metric), color=GREY, ls=style, lw=1, label=label
            )  # fmt: skip


def strip(ax: Axes, y: int, row: Row, kind: Kind, metric: str) -> None:
    colour = COLOURS[0 if row.name in ("default", "adapter") else 1]
    dots = [e.value for e in row.by_seed(kind, metric).values()]
    ax.plot(dots, [y] * len(dots), "o", color=colour, alpha=0.45, mew=0)
    e = row.of(kind, metric)
    if math.isfinite(e.low):
        ax.plot([e.low, e.high], [y, y], color=colour, lw=1.2)
    ax.plot([e.value], [y], "|", color=colour, ms=9, mew=2)


def pareto(students: Sequence[Shown], path: Path) -> None:
    """Adherence and KID over the layout share: lines over strengths and over gates, with the runs
    as dots behind the means."""
    panels = (("adherence", "adherence"), ("kid", "KID"))
    with pages.figure(path, len(panels), (9, 3.6)) as axes:
        for ax, (metric, title) in zip(axes, panels, strict=True):
            for i, one in enumerate(students):
                where = f", {one.told.on} steps" if len(students) > 1 else ""
                for j, (question, style) in enumerate((("strength", "-o"), ("first steps", "--s"))):
                    rows = [row for row in one.told.rows if row.question == question]
                    line(ax, rows, metric, style, COLOURS[2 * i + j], f"{question}{where}")
                full = one.metric(FULL, metric)
                ax.plot([1], [full], "*", color=GREY, ms=10, label=f"teacher, full steps{where}")
            ax.set_xlabel("share of the layout gap")
            ax.set_ylabel(title)
        handles = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(*handles, loc="outside upper right", ncols=3)


def line(
    ax: Axes, rows: Sequence[Row], metric: str, style: str, colour: str, label: str
) -> None:  # fmt: skip
    xs = [row.of("shares", LAYOUT).value for row in rows]
    ys = [row.of("metrics", metric).value for row in rows]
    for row in rows:
        shares, values = row.by_seed("shares", LAYOUT), row.by_seed("metrics", metric)
        both = [seed for seed in shares if seed in values]
        ax.plot(
            [shares[s].value for s in both], [values[s].value for s in both], "o", color=colour,
            alpha=0.3, mew=0,
        )  # fmt: skip
    ax.plot(xs, ys, style, color=colour, label=label)
    for row, x, y in zip(rows, xs, ys, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            ax.annotate(
                row.level, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7
            )  # fmt: skip
