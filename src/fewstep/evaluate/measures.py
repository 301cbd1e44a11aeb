"""What one set of pictures looks like: read once, a few prompts at a time.

What is kept is small beside the pictures, and every metric is arithmetic on it (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate import diversity, quality
from fewstep.evaluate.gallery import Pictures
from fewstep.evaluate.generate import Progress, silent
from fewstep.evaluate.statistics import Index
from fewstep.shapes import Pixels
from fewstep.worlds.base import World

Array = NDArray[np.float64]
Extract = Callable[[Pixels], NDArray]
"""(n, d) features of n images."""
Spread = Callable[[Pixels, Index, int], Array]
"""(prompts,) from n images, the prompt of each, and the number of prompts."""

Score = Callable[[Pixels, Sequence[str]], Array]
"""(n,) of n pictures, each with its prompt."""

AT_ONCE = 128
"""Pictures that are held at a time, or one prompt's."""

PICTURES: Mapping[str, Callable[[Pixels], Array]] = {
    "sharpness": quality.sharpness,
    "high_frequency": quality.high_frequency,
    "saturation": quality.saturation,
    "brightness": quality.brightness,
    "contrast": quality.contrast,
    "scale": quality.scale,
}
"""One number a picture, of which a model's mean is told as a ratio to the truth's."""


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """What pictures are measured with, beside what needs no network."""

    features: Mapping[str, Extract]
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """n = prompts x seeds pictures, all seeds of the first prompt first."""

    prompts: tuple[str, ...]
    n_seeds: int
    features: Mapping[str, Array]
    """(n, d) by extractor."""
    adherence: Mapping[str, NDArray] = field(default_factory=dict)
    """(n,) by part of what was asked, "all" of it first; a part is NaN where the prompt does not
    ask for it. Empty without a world."""
    categories: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """(prompts,) by kind of prompt."""
    pictures: Mapping[str, Array] = field(default_factory=dict)
    """(n,) by metric of a single picture."""
    scores: Mapping[str, Array] = field(default_factory=dict)
    """(n,) by score of a picture beside its prompt."""
    spreads: Mapping[str, Array] = field(default_factory=dict)
    """(prompts,) by metric of the seeds of a prompt."""

    @property
    def index(self) -> Index:
        """(n,): the prompt of each picture."""
        return np.repeat(np.arange(len(self.prompts)), self.n_seeds)

    @property
    def size(self) -> tuple[int, int]:
        return len(self.prompts), self.n_seeds


def in_memory(images: Pixels, prompts: Sequence[str], seeds: Sequence[int]) -> Pictures:
    """Images that are there already, all seeds of the first prompt first."""
    if len(images) != len(prompts) * len(seeds):
        raise ValueError(
            f"images must be one for each of {len(prompts)} prompts x {len(seeds)} seeds, "
            f"got {len(images)}"
        )
    each = len(seeds)
    return Pictures(
        prompts=tuple(prompts), seeds=tuple(seeds),
        read=lambda start, stop: images[start * each : stop * each],
    )  # fmt: skip


def measure(
    pictures: Pictures, world: World | None, instruments: Instruments, told: Progress = silent
) -> Measures:
    """Read every picture once. Without a world nothing is judged against its prompt."""
    prompts, each = pictures.prompts, len(pictures.seeds)
    parts: list[dict[str, dict[str, Array]]] = []
    step = max(1, AT_ONCE // each)
    for start in range(0, len(prompts), step):
        stop = min(start + step, len(prompts))
        images = pictures.read(start, stop)
        parts.append(measure_part(images, prompts[start:stop], each, world, instruments))
        told(stop * each, pictures.total)
    joined = {
        kind: {name: np.concatenate([part[kind][name] for part in parts]) for name in first}
        for kind, first in parts[0].items()
    }
    return Measures(
        prompts=prompts, n_seeds=each, features=joined["features"],
        adherence=joined["adherence"],
        categories={} if world is None else world.categories(prompts),
        pictures=joined["pictures"], scores=joined["scores"], spreads=joined["spreads"],
    )  # fmt: skip


def measure_part(
    images: Pixels, prompts: Sequence[str], each: int, world: World | None,
    instruments: Instruments,
) -> dict[str, dict[str, Array]]:  # fmt: skip
    """All seeds of a few prompts."""
    index = np.repeat(np.arange(len(prompts)), each)
    asked = [prompt for prompt in prompts for _ in range(each)]
    spreads = {"pixel_std": diversity.pixel_std, **instruments.spreads}
    features = {name: np.asarray(f(images)) for name, f in instruments.features.items()}
    found: dict[str, dict[str, Array]] = {
        "features": {name: own.astype(np.float64) for name, own in features.items()},
        "pictures": {name: f(images) for name, f in PICTURES.items()},
        "scores": {name: f(images, asked) for name, f in instruments.scores.items()},
        "spreads": {name: f(images, index, len(prompts)) for name, f in spreads.items()},
        "adherence": {},
    }
    if world is not None:
        found["adherence"] = {k: np.asarray(v) for k, v in world.adherence(images, asked).items()}
        layouts = world.layouts(images, asked)
        found["spreads"]["layout"] = diversity.pairwise(layouts, index, len(prompts))
    return found
