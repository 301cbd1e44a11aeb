"""Numbers as text: as many digits as the interval supports, and no more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fewstep.report.results import Number

MINUS, TIMES = "\u2212", "\u00d7"


def digits(number: Number, percent: bool = False) -> int:
    """Decimals that show two figures of half the interval, within reason."""
    scale = 100.0 if percent else 1.0
    half = (number.high - number.low) / 2 if number.has_interval else abs(number.value) / 2
    wanted = 1 - math.floor(math.log10(half * scale)) if half > 0 else 0
    return min(max(wanted, 0), 1 if percent else 4)


def shown(number: Number, percent: bool = False, decimals: int | None = None) -> tuple[str, str]:
    """Value and interval with the digits that the interval supports; "" without interval."""
    return _shown(number, percent, decimals, "", " %" if percent else "")


def shown_difference(number: Number, percent: bool = False) -> tuple[str, str]:
    """The same with a sign; a difference of two shares is told in points."""
    return _shown(number, percent, None, "+", " points" if percent else "")


def _shown(
    number: Number, percent: bool, decimals: int | None, sign: str, unit: str
) -> tuple[str, str]:
    if not math.isfinite(number.value):
        return "n/a", ""
    places = digits(number, percent) if decimals is None else decimals

    def text(value: float) -> str:
        rounded = round(value * (100 if percent else 1), places) + 0.0  # no "-0.0"
        plus = sign if rounded > 0 else ""
        return f"{plus}{rounded:.{places}f}".replace("-", MINUS)

    interval = f"{text(number.low)} to {text(number.high)}" if number.has_interval else ""
    return text(number.value) + unit, interval


def counted(number: Number) -> str:
    """What was repeated."""
    if number.n_runs > 1:
        return f"{number.n_runs} training runs"
    return f"{number.n_prompts} prompts {TIMES} {number.n_seeds} seeds"


def repeated(numbers: Sequence[Number]) -> str:
    """`counted` of several numbers: each of its answers once."""
    return ", ".join(dict.fromkeys(counted(n) for n in numbers))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def named(items: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def within(label: str) -> str:
    """A label inside a sentence: "Layout diversity" -> "layout diversity", "KID" stays."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]
