"""What healthy training looks like, so that a plot can say it.

gap of the heads' logits, once the student has begun to move (LOG.md)
    below 0.02    dead         "LADD students want fresh noise": logits at 0, students at random
    0.02 to 1     healthy      "the wrong convention": 0.03 to 0.13 in the right run; "LADD trains
                               every level alike": 0.05, rising to 0.2 and above
    above 1.4     heads win    "the wrong convention": 1.4 to 2.3 in the runs that collapse
accuracy of the heads, mean of real and fake
    0.5           fooled       a coin has it
    1.0           saturated    the student has nothing left to learn from

Between 1 and 1.4 nothing has been seen in a run, so nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewstep.report.collect import Series, Training

State = Literal["good", "bad"]


@dataclass(frozen=True)
class Band:
    """Values from low to high, infinite where the band is open, and what they mean."""

    low: float
    high: float
    word: str
    where: str
    """Low and high in words."""
    state: State


GAP = (  # a value on an edge belongs to the first
    Band(0.02, 1.0, "healthy", "0.02 to 1", "good"),
    Band(-math.inf, 0.02, "dead", "below 0.02", "bad"),
    Band(1.4, math.inf, "heads win", "above 1.4", "bad"),
)
ACCURACY = (  # a point each, given some width so that it can be seen
    Band(0.48, 0.52, "fooled", "mean at 0.5", "bad"),
    Band(0.98, 1.0, "saturated", "mean at 1", "bad"),
)


@dataclass(frozen=True)
class Sign:
    """One line of the table of health; `state` is None where nothing is known to be said."""

    name: str
    value: str
    word: str
    state: State | None


def balanced(series: Mapping[str, Series]) -> Series | None:
    """Mean of the heads' accuracy on real and on fake samples."""
    real, fake = series.get("heads/real_accuracy"), series.get("heads/fake_accuracy")
    if real is None or fake is None or not np.array_equal(real.steps, fake.steps):
        return None
    return Series(real.steps, (real.values + fake.values) / 2)


def signs(training: Training) -> list[Sign]:
    """What the last tenth of a run's rows says, and what was not finite in all of it."""
    found: list[Sign] = []
    gap = training.series.get("heads/gap")
    if gap is not None and training.begun is not None:
        found.append(judged("gap of the heads' logits, last tenth of the rows", gap, GAP))
    both = balanced(training.series)
    if both is not None:
        found.append(judged("accuracy of the heads, last tenth of the rows", both, ACCURACY))
    if training.skipped is not None:
        found.append(counted("steps that were skipped, being not finite", training.skipped))
    found.append(counted("logged values that are not finite", training.not_finite))
    return found


def counted(name: str, count: int) -> Sign:
    """How many were not finite."""
    if count:
        return Sign(name, str(count), "not finite", "bad")
    return Sign(name, "0", "all finite", "good")


def judged(name: str, series: Series, bands: tuple[Band, ...]) -> Sign:
    """The mean of the last tenth of a series, and the band it lies in."""
    last = series.values[-math.ceil(len(series.values) / 10) :]
    known = last[np.isfinite(last)]
    if not len(known):
        return Sign(name, "n/a", "not finite", "bad")
    value = float(known.mean())
    for band in bands:
        if band.low <= value <= band.high:
            return Sign(name, f"{value:.2g}", band.word, band.state)
    return Sign(name, f"{value:.2g}", "", None)


def beside(each: Sequence[Sequence[Sign]]) -> list[tuple[str, list[Sign | None]]]:
    """The signs of several runs by name: one for each run, None where it has not got it."""
    found = [{sign.name: sign for sign in own} for own in each]
    names = dict.fromkeys(name for own in found for name in own)
    return [(name, [own.get(name) for own in found]) for name in names]
