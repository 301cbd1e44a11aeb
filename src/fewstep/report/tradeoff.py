"""Two measured quantities against each other: points with intervals in both directions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase

from fewstep.report.axes import CARD, INK, empty, ink, inline, style
from fewstep.report.numbers import shown
from fewstep.report.plots import colour
from fewstep.report.results import Number, Point, TradeOff

WIDTH, HEIGHT = 440, 300
MARK = 9.0
"""Diameter of a point."""
SIDES = tuple(
    (right * far, up * far, across, along)
    for far in (1, 2)
    for right, up, across, along in (
        (8, 6, "left", "bottom"), (-8, 6, "right", "bottom"),
        (8, -6, "left", "top"), (-8, -6, "right", "top"),
        (0, -9, "center", "top"), (0, 9, "center", "bottom"),
        (10, 0, "left", "center"), (-10, 0, "right", "center"),
    )
)  # fmt: skip
"""Where a label may stand beside its point, best first: offset to the right, offset up, and the
part of the label that is put there."""
AIR = 1.0
"""Around a label."""


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
        label(axes, lines, within=figure.bbox)
        colours = [colour(i) for i in range(len(lines))]
        title = f"{curve.title}: {curve.y} against {curve.x}"
        return inline(figure, title, colours, tips={told(point) for point in every})


def mark(axes: Axes, point: Point, fill: str) -> None:
    """The point and its intervals, with its numbers as a tool tip."""
    x, y, tip = point.x, point.y, told(point)
    if x.has_interval:
        axes.hlines(y.value, x.low, x.high, fill, linewidth=1.5, alpha=0.7, gid=tip)
    if y.has_interval:
        axes.vlines(x.value, y.low, y.high, fill, linewidth=1.5, alpha=0.7, gid=tip)
    axes.plot(
        x.value, y.value, "o", color=fill, markersize=MARK, markeredgecolor=ink(CARD),
        markeredgewidth=1.5, gid=tip,
    )  # fmt: skip


def told(point: Point) -> str:
    return f"{point.label}: x {worded(point.x)}; y {worded(point.y)}"


def worded(number: Number) -> str:
    """A number and its interval; where that has no width it was not measured, such as steps."""
    if number.low == number.high:
        return f"{number.value:g}"
    return ", ".join(filter(None, shown(number)))


def label(axes: Axes, lines: Sequence[Sequence[Point]], within: BboxBase) -> None:
    """Each label on the side of its point where it covers least, which is mostly nothing."""
    every = [point for line in lines for point in line]
    places = np.reshape([(point.x.value, point.y.value) for point in every], (-1, 2))
    at = axes.transData.transform(places)
    taken = [Bbox.from_bounds(x - MARK / 2, y - MARK / 2, MARK, MARK) for x, y in at]
    drawn = [axes.transData.transform_path(path) for path in strokes(lines)]
    room = Bbox([axes.bbox.min, within.max])

    def covered(box: Bbox) -> tuple[bool, int, int]:
        """Whether it leaves the plot, and the marks and labels, and the lines that it covers."""
        inside = room.contains(*box.min) and room.contains(*box.max)
        crossed = sum(path.intersects_bbox(box, filled=False) for path in drawn)
        return not inside, box.count_overlaps(taken), crossed

    for point in every:
        text = axes.annotate(
            point.label, (point.x.value, point.y.value), (0, 0), textcoords="offset points",
            color=ink(INK), in_layout=False,
        )  # fmt: skip

        def box(side: tuple[float, float, str, str], text: Annotation = text) -> Bbox:
            right, up, across, along = side
            text.set(position=(right, up), ha=across, va=along)
            return text.get_window_extent().padded(AIR)

        taken.append(box(min(SIDES, key=lambda side: covered(box(side)))))


def strokes(lines: Sequence[Sequence[Point]]) -> Iterator[Path]:
    """The lines and the intervals in the units of the axes."""
    for line in lines:
        if len(line) > 1:
            yield Path([(point.x.value, point.y.value) for point in line])
        for x, y in ((point.x, point.y) for point in line):
            if x.has_interval:
                yield Path([(x.low, y.value), (x.high, y.value)])
            if y.has_interval:
                yield Path([(x.value, y.low), (x.value, y.high)])
