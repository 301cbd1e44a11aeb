"""Curves as inline SVG that takes the text colour of the page, so that it suits light and dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewstep.report.collect import Array, Curve

INK = "#010203"
"""Drawn in place of the page's text colour, and replaced by `currentColor` in the SVG."""
COLOURS = ("#3b82f6", "#f0883e", "#10a37f", "#a371f7", "#e5484d", "#0ea5b7", "#d6409f", "#8a8f98")
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
POINTS = 160
"""Points a line is averaged down to."""


@dataclass(frozen=True)
class Panel:
    """One plot: its lines by label."""

    title: str
    lines: Mapping[str, Curve]
    bounded: bool = False
    """Values are shares: the axis is 0 to 1."""
    ordered: bool = False
    """Labels have an order (layers, levels), shown as a colour scale."""


SCALARS = (
    # title, names of the series (after the phase), shares
    ("Losses", r"(.*_)?loss", False),
    ("Gradient norms", r"(.*_)?grad(ient)?_norm", False),
    ("Accuracy of the heads", r"(real|fake)_accuracy", True),
    ("Mean logits and their gap", r"(real|fake)_logit|gap", False),
    ("Spread of the pictures", r".*(_std|_spread)", False),
    ("Learning rate", r"lr|learning_rate", False),
)


def panels(curves: Mapping[str, Curve]) -> tuple[list[Panel], list[Panel]]:
    """What everyone should see, and the rest (one panel for each series)."""
    curves = by_sigma(curves)
    shown: list[Panel] = []
    used: set[str] = set()
    for title, pattern, bounded in SCALARS:
        lines = {
            name: curve
            for name, curve in curves.items()
            if curve.values.shape[1] == 1 and re.fullmatch(pattern, name.split("/")[-1])
        }
        used |= lines.keys()
        if lines:
            shown.append(Panel(title, shortened(lines), bounded))
    for name, curve in curves.items():
        last = name.split("/")[-1]
        found = re.fullmatch(r"(.*)_by_(head|layer|sigma)", last)
        if not found:
            continue
        used.add(name)
        title = f"{found[1].replace('_', ' ').capitalize()} by {found[2]}"
        lines = {label(found[2], i, k): line for i, k, line in split(curve)}
        shown.append(Panel(title, lines, "accuracy" in last, ordered=True))
    rest = [
        Panel(name, {str(i): line for i, _, line in split(curve)}, ordered=True)
        for name, curve in curves.items()
        if name not in used
    ]
    return shown, rest


def shortened(lines: Mapping[str, Curve]) -> dict[str, Curve]:
    """Labels without the phase, where that leaves them distinct."""
    short = [name.split("/")[-1] for name in lines]
    if len(set(short)) < len(short):
        return {name.replace("/", " "): curve for name, curve in lines.items()}
    return dict(zip(short, lines.values(), strict=True))


def split(curve: Curve) -> Iterator[tuple[int, int, Curve]]:
    count = curve.values.shape[1]
    for i in range(count):
        yield i, count, Curve(curve.steps, curve.values[:, i : i + 1])


def label(kind: str, i: int, count: int) -> str:
    if kind != "sigma":
        return f"{kind} {i}"
    return f"{i / count:.2g} to {(i + 1) / count:.2g}"


def by_sigma(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves, with sums over a bin of levels turned into means over its samples.

    `x_correct_by_sigma` and `x_logit_by_sigma` are divided by `x_share_by_sigma`, averages by
    averages: a row may have no sample in a bin.
    """
    found: dict[str, Curve] = {}
    for name, curve in curves.items():
        parts = re.fullmatch(r"(.*_)(correct|logit|share)_by_sigma", name)
        share = parts and curves.get(f"{parts[1]}share_by_sigma")
        if not parts or not share or share.values.shape != curve.values.shape:
            found[name] = curve
        elif parts[2] != "share":
            # long stretches, so that every bin has samples in nearly all of them
            steps, top = thinned(curve.steps, curve.values, points=40)
            _, bottom = thinned(share.steps, share.values, points=40)
            mean = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
            kind = "accuracy" if parts[2] == "correct" else "logit"
            found[f"{parts[1]}{kind}_by_sigma"] = Curve(steps, mean)
    return found


def thinned(steps: Array, values: Array, points: int = POINTS) -> tuple[Array, Array]:
    """Means over at most `points` stretches of equal length; NaN entries are left out."""
    parts = np.array_split(np.arange(len(steps)), min(points, len(steps)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a stretch of NaN alone stays NaN
        means = [np.nanmean(np.where(np.isfinite(values[p]), values[p], np.nan), 0) for p in parts]
    return np.array([steps[p].mean() for p in parts]), np.array(means)


def svg(panel: Panel) -> str:
    """The panel as an SVG element without XML header."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": panel.title,  # ids differ between plots of one page
        "font.family": "sans-serif",
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.0, 2.7), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        draw(panel, figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'(<svg[^>]*?) width="[^"]*pt"|(<svg[^>]*?) height="[^"]*pt"', r"\1\2", text)


def draw(panel: Panel, figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    scale = mpl.colormaps["viridis"]
    count = len(panel.lines)
    for i, (name, curve) in enumerate(panel.lines.items()):
        steps, values = thinned(curve.steps, curve.values)
        ramp = scale(0.15 + 0.7 * i / max(count - 1, 1))
        colour = ramp if panel.ordered and count > 1 else COLOURS[i % len(COLOURS)]
        marker = "o" if len(steps) == 1 else None
        axes.plot(
            steps,
            values[:, 0],
            color=colour,
            lw=1.5,
            marker=marker,
            ms=3,
            label=name.replace("_", " "),
        )
    if panel.bounded:
        axes.set_ylim(-0.03, 1.03)
        axes.axhline(0.5, color=INK, lw=0.6, alpha=0.35, ls=(0, (3, 3)))
    axes.grid(axis="y", color=INK, alpha=0.1, lw=0.6)
    axes.tick_params(length=2, width=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    for spine in axes.spines.values():
        spine.set_alpha(0.35)
        spine.set_linewidth(0.6)
    axes.set_xlabel("step", fontsize=8.5)
    if count > 1:
        columns = min(count, 3 if max(map(len, panel.lines)) < 16 else 2)
        figure.legend(
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=8.5 if count <= 9 else 7.5,
            handlelength=1.2,
            columnspacing=1.2,
        )
