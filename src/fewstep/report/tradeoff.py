"""Two measured quantities against each other: points with intervals in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox, BboxBase

from fewstep.report.axes import CARD, INK, empty, ink, inline, style
from fewstep.report.numbers import shown
from fewstep.report.plots import colour
from fewstep.report.results import Point, TradeOff

WIDTH, HEIGHT = 440, 300
MARK = 9.0
"""Diameter of a point."""
SIDES = (
    (8, 6, "left", "bottom"), (-8, 6, "right", "bottom"),
    (8, -6, "left", "top"), (-8, -6, "right", "top"),
    (0, -9, "center", "top"), (0, 9, "center", "bottom"),
)  # fmt: skip
"""Where a label may stand beside its point, best first: offset to the right, offset up, and the
part of the label that is put there."""


def tradeoff(curve: TradeOff) -> str:
    """The plot as an SVG element; its legend is the page's. Undefined points are left out."""
    lines = [
        [p for p in points if math.isfinite(p.x.value) and math.isfinite(p.y.value)]
        for points in curve.lines.values()
    ]
    every = [point for line in lines for point in line]
    with style(salt=repr(curve)):
        figure, axes = empty(WIDTH, HEIGHT)
        axes.margins(0.08)
        axes.set_xlabel(curve.x)
        axes.set_ylabel(curve.y)
        for i, line in enumerate(lines):
            axes.plot([p.x.value for p in line], [p.y.value for p in line], color=ink(colour(i)))
            for point in line:
                mark(axes, point, ink(colour(i)))
        figure.draw_without_rendering()  # so that it is known where the points come to lie
        label(axes, every, within=figure.bbox)
        colours = [colour(i) for i in range(len(lines))]
        title = f"{curve.title}: {curve.y} against {curve.x}"
        return inline(figure, title, colours, tips={told(point) for point in every})


def mark(axes: Axes, point: Point, fill: str) -> None:
    """The point and its intervals, with its numbers as a tool tip."""
    x, y, tip = point.x, point.y, told(point)
    if x.has_interval:
        axes.hlines(y.value, x.low, x.high, fill, linewidth=1.5, alpha=0.5, gid=tip)
    if y.has_interval:
        axes.vlines(x.value, y.low, y.high, fill, linewidth=1.5, alpha=0.5, gid=tip)
    axes.plot(
        x.value, y.value, "o", color=fill, markersize=MARK, markeredgecolor=ink(CARD),
        markeredgewidth=1.5, gid=tip,
    )  # fmt: skip


def told(point: Point) -> str:
    x, y = (", ".join(filter(None, shown(number))) for number in (point.x, point.y))
    return f"{point.label}: x {x}; y {y}"


def label(axes: Axes, points: Sequence[Point], within: BboxBase) -> None:
    """Each label on the first side of its point that is free, else on the last one."""
    at = [axes.transData.transform((point.x.value, point.y.value)) for point in points]
    taken = [Bbox.from_bounds(x - MARK / 2, y - MARK / 2, MARK, MARK) for x, y in at]
    room = Bbox([axes.bbox.min, within.max])
    for point in points:
        text = axes.annotate(
            point.label, (point.x.value, point.y.value), (0, 0), textcoords="offset points",
            color=ink(INK), in_layout=False,
        )  # fmt: skip
        for right, up, across, along in SIDES:
            text.set(position=(right, up), ha=across, va=along)
            box = text.get_window_extent()
            inside = room.contains(*box.min) and room.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                break
        taken.append(text.get_window_extent())
