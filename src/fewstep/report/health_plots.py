"""The signs of a watch as plots: of one run with bands and alarms, of several run against run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fewstep.report.collect import Series
from fewstep.report.health import Band
from fewstep.report.plots import COLOURS, Line, Panel, colour
from fewstep.report.watched import Sign, Watched, band_text


def panels_of_health(watched: Mapping[str, Watched]) -> list[Panel]:
    """A plot of each sign that any run has."""
    if len(watched) == 1:
        [own] = watched.values()
        return [panel(sign, own) for sign in own.signs if sign.looks]
    words = {sign.name: sign.words for own in watched.values() for sign in own.signs}
    return [Panel(title=title(words[name]), lines=overlaid(name, watched)) for name in words]


def panel(sign: Sign, own: Watched) -> Panel:
    raised = {alarm.step for alarm in own.alarms if alarm.sign == sign.words}
    lines = [Line("each look", over(sign.looks), colour(0))]
    if at := [(step, value) for step, value in sign.looks if step in raised]:
        lines.append(Line("alarm", over(at), colour(4)))
    bands: Sequence[Band] = ()
    if math.isfinite(sign.low) or math.isfinite(sign.high):
        bands = [Band(sign.low, sign.high, "healthy", band_text(sign.low, sign.high), "good")]
    return Panel(title=title(sign.words), lines=lines, bands=bands)


def overlaid(name: str, watched: Mapping[str, Watched]) -> list[Line]:
    """A run has its colour in every plot."""
    return [
        Line(run, over(sign.looks), colour(i), dashed=i >= len(COLOURS))
        for i, (run, own) in enumerate(watched.items())
        for sign in own.signs
        if sign.name == name and sign.looks
    ]


def over(looks: Sequence[tuple[int, float]]) -> Series:
    steps, values = zip(*looks, strict=True)
    return Series(np.array(steps, dtype=float), np.array(values, dtype=float)[:, None])


def title(words: str) -> str:
    return words[:1].upper() + words[1:]
