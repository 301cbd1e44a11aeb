"""What a Shapes scene is made of, and the distribution that layouts are drawn from.

Every length is a fraction of the image side; every angle is in radians; colours are RGB in [0, 1].

The layout distribution, given what a prompt asks: each object's radius is uniform in its range
(`small` and `large` take the lower and upper quarter of it), its centre uniform over the canvas,
its angle uniform within `turn` of upright; the whole scene is drawn again until every object lies
inside the canvas and no two circumscribed circles come nearer than `gap`, and an asked relation
holds.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace

import numpy as np

HUES = {"red": 0, "yellow": 60, "green": 120, "cyan": 180, "blue": 240, "magenta": 300}
"""Degrees of the named colours; the world draws them with a jitter of a few degrees."""

BACKGROUNDS = {
    "white": (0.96, 0.96, 0.96),
    "black": (0.05, 0.05, 0.05),
    "gray": (0.5, 0.5, 0.5),
    "tan": (0.84, 0.73, 0.6),
}


@dataclass(frozen=True)
class Outline:
    """A shape family with one continuous rule: a star of `points` whose valleys reach `inner` of
    its tips, blended towards a circle by `roundness`. Polygons are stars with straight sides."""

    points: int
    inner: float
    roundness: float = 0.0
    rest: float = 0.0
    """Angle at which it stands upright; at angle 0 a tip points up."""
    hollow: float = 0.0
    """A hole of the same shape, so many times the size; 0 is filled."""

    def __post_init__(self) -> None:
        if not 0 <= self.hollow < 1:
            raise ValueError(f"hollow must lie in [0, 1), got {self.hollow}")

    def reach(self) -> float:
        """Circumscribed radius of an object of radius 1 (sizes of different shapes look alike,
        whether they are hollow or not)."""
        alpha = math.pi / self.points
        phi = (np.arange(64) + 0.5) / 64 * alpha
        side = self.inner * math.sin(alpha)
        bent = side / (np.sin(phi) * (1 - self.inner * math.cos(alpha)) + np.cos(phi) * side)
        mean = float((1 - self.roundness) * bent.mean() + self.roundness)
        return mean**-0.5


OUTLINES = {
    "circle": Outline(6, 1.0, 1.0),
    "triangle": Outline(3, 0.5),
    "square": Outline(4, math.cos(math.pi / 4), rest=math.pi / 4),
    "star": Outline(5, 0.42),
    "cross": Outline(4, 0.34),
}


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """How hard the world is. The defaults are the level of the model in the package, which trains
    on two cores; `PAIRS`, `CROWDED` and `HARD` want more, in this order."""

    side: int = 64
    colours: tuple[str, ...] = tuple(HUES)
    shapes: tuple[str, ...] = ("circle", "triangle", "square", "cross")
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    max_objects: int = 2
    radius: tuple[float, float] = (0.11, 0.18)
    turn: float = 0.3
    """Largest rotation of an object either way, in radians."""
    gap: float = 0.05
    hue_jitter: float = 6.0
    sized: float = 0.25
    """Share of prompts of at most two objects that ask for a size."""
    related: float = 0.0
    """Share of two-object prompts that ask for a relation."""


PAIRS = WorldConfig(shapes=tuple(OUTLINES), related=0.12)
"""Stars too, and relations between two objects."""

CROWDED = replace(PAIRS, max_objects=3, gap=0.03)
"""Up to three objects that may nearly touch."""

HARD = replace(CROWDED, radius=(0.08, 0.16), turn=math.pi)
"""Small objects at any angle."""


@dataclass(frozen=True)
class Look:
    """What a word, or a concept that has no word, fixes of an object."""

    hue: float
    outline: Outline


@dataclass(frozen=True)
class Style:
    """How every thing of a picture is drawn, whatever its shape and colour: as a frame."""

    hollow: float

    def drawn(self, outline: Outline) -> Outline:
        """The outline in this style."""
        return replace(outline, hollow=self.hollow)


Concept = Look | Style
"""What a picture can show that has no word."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene."""

    x: float
    y: float
    radius: float
    angle: float
    colour: tuple[float, float, float]
    outline: Outline


@dataclass(frozen=True)
class Scene:
    background: tuple[float, float, float]
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Wanted:
    """One object that a scene must hold."""

    look: Look
    size: str | None = None


def size_range(cfg: WorldConfig, size: str | None) -> tuple[float, float]:
    low, high = cfg.radius
    quarter = (high - low) / 4
    match size:
        case None:
            return low, high
        case "small":
            return low, low + quarter
        case "large":
            return high - quarter, high
        case _:
            raise ValueError(f"size must be 'small' or 'large', got {size!r}")


def related(relation: str, first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether the first centre stands in the relation to the second; y grows downwards."""
    dx, dy = second[0] - first[0], second[1] - first[1]
    match relation:
        case "left of":
            return dx > abs(dy)
        case "right of":
            return -dx > abs(dy)
        case "above":
            return dy > abs(dx)
        case "below":
            return -dy > abs(dx)
        case _:
            raise ValueError(f"relation {relation!r} is not one of left of, right of, above, below")


def draw_scene(
    cfg: WorldConfig,
    wanted: tuple[Wanted, ...],
    background: str | None,
    relation: str | None,
    rng: np.random.Generator,
) -> Scene:
    """One scene from the layout distribution (module docstring), by rejection in blocks."""
    reach = np.array([w.look.outline.reach() for w in wanted])
    ranges = np.array([size_range(cfg, w.size) for w in wanted])
    n, block = len(wanted), 32
    pairs = [(i, j) for i in range(n) for j in range(i)]
    for _ in range(1000):
        radius = rng.uniform(ranges[:, 0], ranges[:, 1], (block, n))
        centre = rng.uniform(0, 1, (block, n, 2))
        extent = radius * reach
        good = ((centre > extent[..., None]) & (centre < 1 - extent[..., None])).all((1, 2))
        for i, j in pairs:
            apart = np.linalg.norm(centre[:, i] - centre[:, j], axis=1)
            good &= apart > extent[:, i] + extent[:, j] + cfg.gap
        for b in np.flatnonzero(good):
            spots = [(float(x), float(y)) for x, y in centre[b]]
            if relation is not None and not related(relation, spots[0], spots[1]):
                continue
            things = tuple(
                Thing(x, y, float(r), w.look.outline.rest + float(rng.uniform(-cfg.turn, cfg.turn)),
                      draw_colour(cfg, w.look.hue, rng), w.look.outline)
                for (x, y), r, w in zip(spots, radius[b], wanted, strict=True)
            )  # fmt: skip
            return Scene(draw_background(cfg, background, rng), things)
    raise ValueError(f"no layout fits {n} objects with radius {cfg.radius} and gap {cfg.gap}")


def draw_colour(
    cfg: WorldConfig, hue: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    degrees = hue + rng.uniform(-cfg.hue_jitter, cfg.hue_jitter)
    saturation, value = rng.uniform(0.85, 1.0, 2)
    return colorsys.hsv_to_rgb(degrees % 360 / 360, float(saturation), float(value))


def draw_background(
    cfg: WorldConfig, name: str | None, rng: np.random.Generator
) -> tuple[float, float, float]:
    base = BACKGROUNDS[name if name is not None else str(rng.choice(cfg.backgrounds))]
    shade = float(rng.uniform(-0.03, 0.03))
    red, green, blue = (min(max(c + shade, 0.0), 1.0) for c in base)
    return red, green, blue


def draw_concept(rng: np.random.Generator) -> Look:
    """A look that has no word: any hue, an outline between and beyond the named ones."""
    points = int(rng.integers(3, 7))
    flat = math.cos(math.pi / points)
    inner = float(rng.uniform(0.35, min(1.0, flat + 0.1)))
    return Look(float(rng.uniform(0, 360)), Outline(points, inner, float(rng.uniform(0, 0.5))))
