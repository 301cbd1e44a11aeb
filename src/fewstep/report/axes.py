"""A plot of matplotlib as inline SVG that takes colours and font from the page around it.

matplotlib knows no CSS colour, so `ink` gives it a placeholder for each, and `inline` puts the CSS
back: one drawing then suits light and dark.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, SOFT, GRID, CARD = "var(--ink)", "var(--soft)", "var(--line)", "var(--card)"
AXIS = "color-mix(in srgb, var(--soft) 60%, transparent)"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
PLACEHOLDER = re.compile("#[0-9a-f]{6}")
UNIT = 1 / 72
"""Inches in a unit of the drawing: matplotlib writes points."""

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def ink(css: str) -> str:
    """The hex colour to draw with in place of a CSS colour."""
    return "#" + hashlib.sha256(css.encode()).hexdigest()[:6]


STYLE: dict[Any, Any] = {
    # the font that comes with matplotlib, for the same layout everywhere; the page shows its own
    "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 11,
    "text.parse_math": False,  # names come from runs: a dollar is a dollar
    "figure.constrained_layout.h_pad": 2 * UNIT, "figure.constrained_layout.w_pad": 4 * UNIT,
    "axes.spines.left": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": ink(AXIS), "axes.linewidth": 1,
    "axes.labelcolor": ink(SOFT), "axes.labelsize": 11,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "axes.formatter.useoffset": False, "axes.formatter.limits": (-4, 6),
    "grid.color": ink(GRID), "grid.linewidth": 1,
    "xtick.color": ink(AXIS), "xtick.labelcolor": ink(SOFT), "xtick.labelsize": 11,
    "xtick.major.size": 4, "xtick.major.width": 1,
    "ytick.color": ink(SOFT), "ytick.labelsize": 11, "ytick.major.size": 0, "ytick.major.pad": 6,
    "lines.linewidth": 1.7, "lines.scale_dashes": False, "lines.solid_capstyle": "butt",
}  # fmt: skip


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Everything about a plot is done within this. Ids of plots differ where `salt` does."""
    with warnings.catch_warnings(), mpl.rc_context({**STYLE, "svg.hashsalt": salt}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has it
        yield


def empty(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure of this many units and its axes, without a background."""
    figure = Figure(figsize=(width * UNIT, height * UNIT), dpi=72, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.locator_params("x", nbins=round(width / 80), steps=[1, 2, 5, 10])
    axes.locator_params("y", nbins=round(height / 50), steps=[1, 2, 5, 10])
    return figure, axes


def inline(figure: Figure, title: str, colours: Iterable[str], tips: Collection[str] = ()) -> str:
    """The figure as an SVG element that fills the width of its place on the page.

    A screen reader says `title`. `colours` are the CSS colours drawn with beside those of the
    style. An artist whose gid is in `tips` shows it as a tool tip.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=NO_METADATA)
    root = ElementTree.fromstring(file.getvalue())
    css = {ink(colour): colour for colour in (INK, SOFT, GRID, CARD, AXIS, *colours)}
    used = {element.get(HREF) for element in root.iter()}
    for element in list(root.iter()):
        # a style would hold for the whole page, and what is drawn stays within the axes
        for unwanted in (f"{{{SVG}}}style", f"{{{SVG}}}clipPath"):
            for child in element.findall(unwanted):
                element.remove(child)
        element.attrib.pop("clip-path", None)
        name = element.get("id", "")
        if f"#{name}" not in used:  # such as "axes_1", which every plot of the page would have
            element.attrib.pop("id", None)
        if name in tips:
            tip = ElementTree.Element(f"{{{SVG}}}title")
            tip.text = name
            element.insert(0, tip)
        if (drawn := element.get("style")) is not None:
            element.set("style", PLACEHOLDER.sub(lambda found: css[found[0]], drawn))
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")
