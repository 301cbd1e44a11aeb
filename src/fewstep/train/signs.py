"""What a look at a run is made of: signs of its health, each with a band.

A look is what a run shows at a step: numbers of its rows since the look before, of its weights and
of pictures of fixed prompts. Bands are stated here; a relative one is learnt from the first look,
which is of the model before training, and from what there is of pictures that the student should
come to. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One number of a look, and the band in which it is healthy."""

    name: str
    words: str
    low: float = -math.inf
    high: float = math.inf
    relative: bool = False
    """The band is a share of the smallest and a multiple of the largest of what the model before
    training has and what it should come to."""
    below: str = ""
    above: str = ""
    """The alarm of values on this side."""


SIGNS = (
    Sign(name="skipped", words="share of steps that were not finite", high=0.1,
         above="not_finite"),
    Sign(name="gap", words="gap of the heads' logits", low=0.02, high=1.4, below="heads_lost",
         above="heads_win"),
    Sign(name="accuracy", words="accuracy of the heads", high=0.98, above="heads_win"),
    Sign(name="spread", words="spread of estimates over that of pictures", low=0.5, high=1.5,
         below="far", above="far"),
    Sign(name="moved", words="share of the weights that training has moved", high=0.5, above="far"),
    Sign(name="behind", words="distance of the average, over the student's way", high=0.95,
         above="average"),
    Sign(name="away", words="distance of pictures from those before training", high=0.5,
         above="far"),
    Sign(name="detail", words="fine detail", low=0.3, high=3.0, relative=True, below="looks",
         above="looks"),
    Sign(name="sharpness", words="sharpness", low=0.6, high=1.6, relative=True, below="looks",
         above="looks"),
    Sign(name="saturation", words="saturation", low=0.5, high=1.8, relative=True, below="looks",
         above="looks"),
    Sign(name="contrast", words="contrast", low=0.5, high=1.8, relative=True, below="looks",
         above="looks"),
    Sign(name="scale", words="scale of what is shown", low=0.7, high=1.5, relative=True,
         below="looks", above="looks"),
    Sign(name="prompts", words="distance between prompts", low=0.5, relative=True,
         below="prompts"),
    Sign(name="seeds", words="distance between seeds", low=0.4, relative=True, below="seeds"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a run showed at a step."""

    step: int
    values: Mapping[str, float]
    """By the names of signs; what a run has not got is missing."""
    beside: Mapping[str, float] = field(default_factory=dict)
    """Of the first look: what pictures have that the student should come to."""


def band_text(low: float, high: float) -> str:
    if math.isinf(low):
        return f"up to {high:.3g}"
    return f"from {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"


def band(sign: Sign, start: Look) -> tuple[float, float]:
    """Low and high in a run that began with this look; open where it is relative to nothing."""
    if not sign.relative:
        return sign.low, sign.high
    known = [own[sign.name] for own in (start.values, start.beside) if sign.name in own]
    known = [value for value in known if 0 < value < math.inf]
    if not known:
        return -math.inf, math.inf
    return sign.low * min(known), sign.high * max(known)


def bands(start: Look) -> dict[str, dict[str, Any]]:
    """Of each sign, in words and numbers."""
    found: dict[str, dict[str, Any]] = {}
    for sign in SIGNS:
        low, high = band(sign, start)
        found[sign.name] = {"words": sign.words, "low": low, "high": high}
    return found


def side(sign: Sign, look: Look, own: tuple[float, float]) -> str | None:
    """The alarm that the value of a look speaks for; None where it is healthy or unknown."""
    value, (low, high) = look.values.get(sign.name), own
    if value is None or low <= value <= high:
        return None
    return (sign.below or sign.above) if value < low else (sign.above or sign.below)
