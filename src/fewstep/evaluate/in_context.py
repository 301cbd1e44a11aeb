"""Does a teacher that is shown pictures draw what they show, and leave the rest as it was?

    apart    of a picture: 1 - its mean cosine with the shown ones, in features
    gain     1 - mean apart of the teacher / mean apart of the plain model: 0 where the context
             does nothing, below 0 where it leads away
    drift    how far a mean over the teacher's pictures lies outside of what the plain model's and
             the shown pictures span: what lies between them may be the concept itself

Both models draw the same prompts from the same noise, so everything is paired. Cosines, because
Euclidean distances reward any whole picture where the plain model draws broken ones: on 8 concepts
of Shapes, 32 pairs each, both see a gain towards the teacher's own concept in all, towards another
concept distances see one in 75 % and cosines in 27 %. 16 pairs see 7 of the 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate import quality
from fewstep.evaluate.feature_sets import checked
from fewstep.evaluate.features import parse_extractor
from fewstep.evaluate.statistics import (
    Draws,
    Estimate,
    Weights,
    divide,
    estimate,
    mean,
    prompt_weights,
)
from fewstep.rng import seed_of
from fewstep.shapes import Pixels

Array = NDArray[np.float64]
LEAST = 8
"""Fewer pictures give an interval that means nothing."""
TINY = 1e-12
"""Features shorter than this have no direction, and a cosine of 0."""


@dataclass(frozen=True, kw_only=True)
class TeacherCheckConfig:
    """What the in-context teacher has to show before a run of self-distillation begins.

    The limits are of drift, in logarithms of ratios but for `tint`.
    """

    pictures: int = 16
    """Drawn by the teacher, and as many by the model without its context; 0 checks nothing."""
    prompts: tuple[str, ...] = ()
    """New prompts that ask for the concept, [trigger] as in captions, each read beside a training
    picture; none takes the captions of other pictures. What counts is how near the pictures come
    to the training pictures, so ask for such. Only where the context is a picture."""
    extractor: str | None = None
    """Whose features tell what is near; none is the world's own network, or pixels without one.
    `pixels` sees where which colour is, and no style: name dinov2 or clip if you have them."""
    batch: int = 4
    """Pictures drawn at a time."""
    zoom: float = 0.1
    """Of the typical length in a picture. Zooming in is the fault that teachers with a picture are
    known for, a blur over 3 pixels of 64 reads as 0.04, and 0.1 is seen side by side. Pictures of 8
    concepts of Shapes that were enlarged by 20 % are found out in all 8 cases."""
    tint: float = 0.08
    """Of the mean of each channel, in [0, 1]: 20 of 255, which is seen as another light."""
    contrast: float = 0.3
    """Of the standard deviation of each channel."""
    saturation: float = 0.4
    """Of the mean chroma, which guidance raises."""
    detail: float = 1.2
    """Of the power of what is finer than four pixels. Whole pictures have a good deal less of it
    than the broken ones of a model that does not know the concept: up to 0.9 on Shapes."""

    def __post_init__(self) -> None:
        if self.pictures and self.pictures < LEAST:
            raise ValueError(
                f"check.pictures must be >= {LEAST}, or 0 to check nothing, got {self.pictures}"
            )
        if self.batch < 1:
            raise ValueError(f"check.batch must be >= 1, got {self.batch}")
        for name in ("zoom", "tint", "contrast", "saturation", "detail"):
            if not getattr(self, name) > 0:
                raise ValueError(f"check.{name} must be > 0, got {getattr(self, name)}")
        if self.extractor is not None:
            parse_extractor(self.extractor)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number a picture, and how far its mean may drift."""

    values: Callable[[Pixels], Array]
    """(n,); NaN where a picture has none."""
    option: str
    """Of the limit, in `TeacherCheckConfig`."""
    floor: float | None
    """Means are compared by the logarithm of their ratio, and below this they count as this, since
    ratios of next to nothing mean nothing; None compares by their difference."""

    def scaled(self, means: Draws) -> Draws:
        """Means on the scale on which they are compared."""
        return means if self.floor is None else np.log(np.maximum(means, self.floor))


def channel(i: int, of: Callable[[Array], Array]) -> Callable[[Pixels], Array]:
    """(n,): the mean or the spread of channel i over the pixels of a picture."""
    return lambda images: of(images[:, i].detach().cpu().double().numpy().reshape(len(images), -1))


COLOURS = ("red", "green", "blue")
QUANTITIES: Mapping[str, Quantity] = {
    "scale": Quantity(values=quality.scale, option="zoom", floor=1e-3),
    **{
        name: Quantity(values=channel(i, lambda x: x.mean(1)), option="tint", floor=None)
        for i, name in enumerate(COLOURS)
    },
    **{
        f"contrast of {name}": Quantity(
            values=channel(i, lambda x: x.std(1)), option="contrast", floor=0.02
        )
        for i, name in enumerate(COLOURS)
    },
    "saturation": Quantity(values=quality.saturation, option="saturation", floor=2.0),
    "high_frequency": Quantity(values=quality.high_frequency, option="detail", floor=1e-6),
}
"""By name."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Means of a quantity, and how far the teacher's lies outside of what the others span."""

    teacher: float
    plain: float
    shown: float
    beyond: Estimate
    limit: float
    option: str

    @property
    def too_far(self) -> bool:
        """Beyond the limit, and not by chance: the interval has one sign."""
        away = self.beyond.low > 0 or self.beyond.high < 0
        return away and abs(self.beyond.value) > self.limit

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: a mean of nothing becomes null."""
        means = {"teacher": self.teacher, "plain": self.plain, "shown": self.shown}
        told = {key: value if math.isfinite(value) else None for key, value in means.items()}
        return {
            **told, "beyond": self.beyond.to_json(), "limit": self.limit, "option": self.option,
            "too_far": self.too_far,
        }  # fmt: skip


def weights_for(n: int) -> Weights:
    """Resamples of n pairs of pictures."""
    return prompt_weights(n, np.random.default_rng(seed_of("in context", "bootstrap")))


def apart(features: NDArray, shown: NDArray) -> Array:
    """(n,): 1 - the mean cosine of each row with the rows of `shown`; in [0, 2]."""
    x, y = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
            for rows in checked(features, shown))  # fmt: skip
    return 1 - (x @ y.T).mean(1)


def gain(drawn: Array, plain: Array, weights: Weights) -> Draws:
    """Draws of the gain of pictures over those of the plain model, from how far they are apart from
    the shown ones, (n,) each."""
    index = np.arange(len(plain))
    own, other = mean(drawn, index, weights), mean(plain, index, weights)
    return 1 - divide(own, other)


def drifts(
    teacher: Pixels, plain: Pixels, shown: Pixels, cfg: TeacherCheckConfig
) -> dict[str, Drift]:
    """By quantity, of n pairs of pictures and those that the teacher is shown."""
    weights, index = weights_for(len(plain)), np.arange(len(plain))
    found: dict[str, Drift] = {}
    for name, quantity in QUANTITIES.items():
        own, other = (mean(quantity.values(images), index, weights) for images in (teacher, plain))
        there = mean(quantity.values(shown), np.arange(len(shown)), np.ones((1, len(shown))))[0]
        at, a, b = (quantity.scaled(np.asarray(x)) for x in (own, other, there))
        beyond = np.maximum(at - np.maximum(a, b), 0) + np.minimum(at - np.minimum(a, b), 0)
        found[name] = Drift(
            teacher=float(own[0]), plain=float(other[0]), shown=float(there),
            beyond=estimate(beyond, len(plain), 1), limit=getattr(cfg, quantity.option),
            option=quantity.option,
        )  # fmt: skip
    return found


def faults(gained: Estimate, drifted: Mapping[str, Drift]) -> list[str]:
    """What speaks against training by this teacher, a clause each."""
    found: list[str] = []
    if not gained.low > 0:
        found.append(
            f"its pictures come no nearer to the training pictures than those without context (gain"
            f" {gained.value:.3f}, interval {gained.low:.3f} to {gained.high:.3f}, limit above 0)"
        )
    for name, drift in drifted.items():
        if drift.too_far:
            found.append(
                f"{name} drifts by {drift.beyond.value:+.3f} (limit check.{drift.option} = "
                f"{drift.limit:g}; {drift.teacher:.3g}, without context {drift.plain:.3g}, in the "
                f"training pictures {drift.shown:.3g})"
            )
    return found
