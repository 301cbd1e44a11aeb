"""Training curves with shaded regions that say what is healthy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fewstep.report.axes import empty, ink, inline, style
from fewstep.report.collect import Array, Series
from fewstep.report.health import Band

COLOURS = ("#2563eb", "#d4620a", "#0b8a63", "#8250df", "#d12f36", "#0784a3", "#bf2e85", "#6b7280")
"""Of lines, in this order, on light paper; the names `--k0`, `--k1`, ... stand for them."""
COLOURS_DARK = (
    "#6ea8ff", "#ffa45c", "#34d39e", "#c297ff", "#ff8080", "#4fd0e0", "#f58cc4", "#b3bac5",
)  # fmt: skip
"""The same on dark paper."""
POINTS = 160
"""Points a line is averaged down to."""
WIDTH, HEIGHT = 360, 220
MARGIN = 0.05
"""Room above and below the lines, as a share of their range."""


@dataclass(frozen=True)
class Line:
    """A series of one value a step, its label and its colour (a CSS value)."""

    label: str
    series: Series
    colour: str
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot."""

    title: str
    lines: Sequence[Line]
    share: bool = False
    """Values are shares: the axis holds 0 to 1."""
    bands: Sequence[Band] = ()
    bands_from: float | None = None
    """The step at which the bands begin to hold; None is the first."""


def colour(i: int) -> str:
    return f"var(--k{i % len(COLOURS)})"


def ramp(i: int, count: int) -> str:
    """A colour between two ends, for lines with an order."""
    share = round(100 * i / max(count - 1, 1))
    return f"color-mix(in oklab, var(--ramp-to) {share}%, var(--ramp-from))"


def thinned(steps: Array, values: Array, points: int = POINTS) -> tuple[Array, Array]:
    """Means over at most `points` stretches of equal length; NaN entries are left out."""
    parts = np.array_split(np.arange(len(steps)), min(points, len(steps)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a stretch of NaN alone stays NaN
        means = [np.nanmean(np.where(np.isfinite(values[p]), values[p], np.nan), 0) for p in parts]
    return np.array([steps[p].mean() for p in parts]), np.array(means)


def svg(panel: Panel) -> str:
    """The panel as an SVG element; its legend is the page's."""
    with style(salt=repr(panel)):
        figure, axes = empty(WIDTH, HEIGHT)
        for line in panel.lines:
            draw(axes, line)
        axes.set_xlabel("step")
        axes.set_xlim(0, max([1.0, *(line.series.steps.max() for line in panel.lines)]))
        axes.locator_params("x", integer=True)
        if panel.share:
            axes.update_datalim([(0, 0), (0, 1)])
        if any(band.low == -math.inf for band in panel.bands):
            axes.update_datalim([(0, 0)])  # a dead gap is only seen to be dead beside zero
        axes.set_ylim(around(axes))
        for band in panel.bands:
            shade(axes, band, panel.bands_from or 0)
        colours = [line.colour for line in panel.lines] + [fill(band) for band in panel.bands]
        return inline(figure, f"{panel.title} against step", colours)


def draw(axes: Axes, line: Line) -> None:
    """A line that is broken where values are missing; a value on its own is a dot."""
    steps, found = thinned(line.series.steps, line.series.values[:, :1])
    values = found[:, 0]
    known = np.concatenate([[False], np.isfinite(values), [False]])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    axes.plot(
        steps, values, color=ink(line.colour), linestyle=(0, (5, 3)) if line.dashed else "-",
        marker="o", markersize=5, markeredgewidth=0, markevery=np.flatnonzero(alone).tolist(),
    )  # fmt: skip


def around(axes: Axes) -> tuple[float, float]:
    """The range of what is drawn with some air, also around a single value."""
    low, high = axes.dataLim.intervaly
    if low > high:  # nothing is
        return 0.0, 1.0
    air = MARGIN * (high - low) or abs(high) / 2 or 1.0
    return low - air, high + air


def fill(band: Band) -> str:
    return f"var(--{band.state}-soft)"


def shade(axes: Axes, band: Band, start: float) -> None:
    """The band from its first step on, as far as it is in the frame."""
    (_, end), (floor, ceiling) = axes.get_xlim(), axes.get_ylim()
    low, high = max(band.low, floor), min(band.high, ceiling)
    if start < end and low < high:
        colour = ink(fill(band))
        axes.add_patch(
            Rectangle((start, low), end - start, high - low, color=colour, lw=0, zorder=0)
        )
