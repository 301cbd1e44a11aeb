"""The parser: reads pictures back into objects.

Colour is measured as the difference from the background. All pixels of one flat object, edges
included, differ from the background in the same direction, so neighbours are joined where their
directions agree: objects of different colours come apart even where they touch. Centre, radius
and angle follow from the moments of an object's coverage, then every outline in question is
rendered there and compared (analysis by synthesis). What resembles no named outline or no named
hue is kept as an unclear object: ghosts and smears count, as mistakes.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np

from fewstep.worlds.shapes.prompts import CONCEPT
from fewstep.worlds.shapes.render import coverage
from fewstep.worlds.shapes.scene import (
    BACKGROUNDS,
    HUES,
    OUTLINES,
    Concept,
    Look,
    Outline,
    Style,
    Thing,
    WorldConfig,
)

FOREGROUND = 0.2
"""RGB distance from the background above which a pixel belongs to something."""
AGREE = 0.8
"""Least cosine between the colour directions of neighbours of one object. Two named hues stay near
0.7 or below; only at the far ends of their jitter can they reach 0.87 and stick together."""
SPECK = 6
"""Fewer pixels than this are dust and are not counted."""
CROWD = 24
"""Things beyond the largest so many are not looked at: the count is wrong anyway."""
MIN_IOU = 0.75
MIN_LEAD = 0.05
"""A named outline must fit by at least MIN_IOU, and better than every other by MIN_LEAD (true
renders: 0.95 and 0.14). A blur of one pixel then costs the small stars, two pixels nearly all."""
HUE_TOLERANCE = 18.0
MIN_CHROMA = 0.55
"""Least saturation and least value of a named colour (true ones are at least 0.85)."""
BACKGROUND_TOLERANCE = 0.12


@dataclass(frozen=True)
class Found:
    """One object of a picture; lengths in units of the side, `radius` that of its best outline."""

    x: float
    y: float
    radius: float
    angle: float
    hue: float
    colour: str | None
    shape: str | None
    likeness: Mapping[str, float]
    """Soft IoU with each outline that was tried, rendered at the object's own place and size."""


@dataclass(frozen=True)
class Picture:
    background: str | None
    found: tuple[Found, ...]


@dataclass(frozen=True)
class Blob:
    """The raw evidence for one object: its coverage in a window of the picture."""

    picture: int
    colour: tuple[float, float, float]
    mask: np.ndarray
    left: int
    top: int


def read(
    images: np.ndarray,
    cfg: WorldConfig | None = None,
    concepts: Sequence[Concept | None] | None = None,
) -> list[Picture]:
    """What each picture (n, 3, side, side) shows; a look without a name is tried beside the names,
    and in a style the names are tried as it draws them, and in no other way."""
    cfg = cfg or WorldConfig()
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[1:] != (3, cfg.side, cfg.side):
        raise ValueError(
            f"images must have shape (n, 3, {cfg.side}, {cfg.side}), got {images.shape}"
        )
    looks = concepts if concepts is not None else [None] * len(images)
    base = border_median(images)
    blobs = find_blobs(images, base)
    objects: list[list[Found]] = [[] for _ in images]
    for blob, found in zip(blobs, fit(blobs, cfg, looks), strict=True):
        objects[blob.picture].append(found)
    return [
        Picture(name_background(cfg, colour), tuple(row))
        for colour, row in zip(base, objects, strict=True)
    ]


def border_median(images: np.ndarray, width: int = 3) -> np.ndarray:
    """(n, 3): the background, since objects reach the border rarely and never along half of it."""
    n, channels = images.shape[:2]
    strips = (
        images[..., :width, :],
        images[..., -width:, :],
        images[..., width:-width, :width],
        images[..., width:-width, -width:],
    )
    ring = np.concatenate([s.reshape(n, channels, -1) for s in strips], axis=2)
    return np.median(ring, axis=2)


def find_blobs(images: np.ndarray, base: np.ndarray) -> list[Blob]:
    """All things in all pictures, each with its colour and its soft coverage."""
    n, columns = len(images), images.shape[-1]
    away = images - base[:, :, None, None]
    distance = np.sqrt((away * away).sum(1))
    toward = away / np.maximum(distance, 1e-6)[:, None]
    label = components(distance > FOREGROUND, toward)
    picture, row, column = np.nonzero(label >= 0)
    member = label[picture, row, column]
    size = np.bincount(member)
    far = distance[picture, row, column]
    # Edge pixels are mixtures, so the colour is that of the pixels which lie far out.
    scale = np.bincount(member, far**2) / np.maximum(np.bincount(member, far), 1e-6)
    core = np.where(far > 0.9 * scale[member], 1.0, 0.0)
    weight = np.maximum(np.bincount(member, core), 1e-6)
    colour = np.stack(
        [np.bincount(member, core * images[picture, c, row, column]) / weight for c in range(3)], 1
    )
    centre = np.stack([np.bincount(member, column) / size, np.bincount(member, row) / size], 1)
    owner = np.zeros(len(size), int)
    owner[member] = picture
    kept = [k for k in np.argsort(-size, kind="stable") if size[k] >= SPECK]
    crowd = np.zeros(n, int)
    reach = math.ceil(0.32 * columns)
    pad = ((0, 0), (reach, reach), (reach, reach))
    wide = np.pad(label, pad, constant_values=-1)
    blobs = []
    for k in kept:
        crowd[owner[k]] += 1
        if crowd[owner[k]] > CROWD:
            continue
        i, left, top = owner[k], round(centre[k, 0]) - reach, round(centre[k, 1]) - reach
        window = np.s_[top + reach : top + 3 * reach, left + reach : left + 3 * reach]
        direction = colour[k] - base[i]
        mixed = np.tensordot(direction, away[i], 1) / (direction @ direction)
        mask = np.clip(np.pad(mixed, reach)[window], 0, 1) * grown(wide[i][window], int(k), size)
        red, green, blue = (float(c) for c in np.clip(colour[k], 0, 1))
        blobs.append(Blob(int(i), (red, green, blue), mask, left, top))
    return blobs


def grown(label: np.ndarray, k: int, size: np.ndarray) -> np.ndarray:
    """Component k and its faint rim: one pixel around it that no other object owns."""
    own = label == k
    rim = own.copy()
    rim[1:] |= own[:-1]
    rim[:-1] |= own[1:]
    rim[:, 1:] |= rim[:, :-1].copy()
    rim[:, :-1] |= rim[:, 1:].copy()
    foreign = (label >= 0) & ~own & (size[label] >= SPECK)
    return rim & ~foreign


def components(fore: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """(n, rows, columns) component numbers, -1 outside: 4-neighbours whose directions agree."""
    index = np.full(fore.shape, -1)
    index[fore] = np.arange(int(fore.sum()))
    ends = []
    for axis in (1, 2):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(low), tuple(high)
        alike = (toward[:, :, *a[1:]] * toward[:, :, *b[1:]]).sum(1) > AGREE
        joined = fore[a] & fore[b] & alike
        ends.append(np.stack([index[a][joined], index[b][joined]]))
    first, second = np.concatenate(ends, axis=1)
    root = np.arange(int(fore.sum()))
    while True:
        one, two = root[first], root[second]
        open_ = one != two
        if not open_.any():
            break
        first, second, one, two = first[open_], second[open_], one[open_], two[open_]
        np.minimum.at(root, np.maximum(one, two), np.minimum(one, two))
        while (deeper := root[root] != root).any():
            root[deeper] = root[root[deeper]]
    label = np.full(fore.shape, -1)
    label[fore] = np.unique(root, return_inverse=True)[1] if len(root) else root
    return label


@lru_cache(maxsize=1024)
def fullness(outline: Outline) -> float:
    """sqrt(area / pi) of an object of radius 1."""
    thing = Thing(0.5, 0.5, 0.3, 0.0, (0, 0, 0), outline)
    return math.sqrt(float(coverage([thing], 256).mean()) / math.pi) / 0.3


def fit(blobs: Sequence[Blob], cfg: WorldConfig, looks: Sequence[Concept | None]) -> list[Found]:
    """The best outline of each blob, at the place, size and angle that its moments tell."""
    if not blobs:
        return []
    masks = np.stack([b.mask for b in blobs])
    width = masks.shape[-1]
    grid = np.arange(width) + 0.5
    area = np.maximum(masks.sum((1, 2)), 1e-6)
    x = np.einsum("kyx,x->k", masks, grid) / area
    y = np.einsum("kyx,y->k", masks, grid) / area
    offset = (grid - x[:, None])[:, None, :] + 1j * (grid - y[:, None])[:, :, None]
    rho = np.abs(offset)
    heading = offset / np.maximum(rho, 1e-6) * 1j  # clockwise from straight up, as angles are
    weighted = masks * rho**2
    tried = [
        (k, name, outline)
        for k, blob in enumerate(blobs)
        for name, outline in candidates(looks[blob.picture])
    ]
    points = {outline.points for _, _, outline in tried}
    angle = {
        p: np.angle(np.einsum("kyx,kyx->k", weighted, heading**p, optimize=False)) / p
        for p in points
    }
    things = [
        Thing(
            float(x[k]) / width,
            float(y[k]) / width,
            math.sqrt(area[k] / math.pi) / fullness(outline) / width,
            float(angle[outline.points][k]),
            blobs[k].colour,
            outline,
        )
        for k, _, outline in tried
    ]
    drawn = coverage(things, width)
    seen = masks[[k for k, _, _ in tried]]
    common = np.minimum(drawn, seen).sum((1, 2))
    iou = common / (drawn.sum((1, 2)) + seen.sum((1, 2)) - common)
    rows: list[dict[str, tuple[float, Thing]]] = [{} for _ in blobs]
    for (k, name, _), thing, value in zip(tried, things, iou, strict=True):
        rows[k][name] = (float(value), thing)
    return [conclude(blob, row, width, cfg) for blob, row in zip(blobs, rows, strict=True)]


def candidates(concept: Concept | None) -> list[tuple[str, Outline]]:
    """Every named outline, drawn at this level or not, so that levels are judged alike."""
    named = list(OUTLINES.items())
    match concept:
        case None:
            return named
        case Look(outline=outline):
            return [*named, (CONCEPT, outline)]
        case Style() as style:
            return [(name, style.drawn(outline)) for name, outline in named]
        case _:
            assert_never(concept)


def conclude(
    blob: Blob, tried: Mapping[str, tuple[float, Thing]], width: int, cfg: WorldConfig
) -> Found:
    named = sorted((value, name) for name, (value, _) in tried.items() if name != CONCEPT)
    (second, _), (value, best) = [(0.0, ""), *named][-2:]
    thing = tried[best][1]
    clear = value >= MIN_IOU and value - second >= MIN_LEAD
    scale = width / cfg.side
    return Found(
        x=thing.x * scale + blob.left / cfg.side,
        y=thing.y * scale + blob.top / cfg.side,
        radius=thing.radius * scale,
        angle=thing.angle,
        hue=colorsys.rgb_to_hsv(*blob.colour)[0] * 360,
        colour=name_colour(cfg, blob.colour),
        shape=best if clear else None,
        likeness={name: value for name, (value, _) in tried.items()},
    )


def hue_gap(a: float, b: float) -> float:
    """Degrees between two hues, in [0, 180]."""
    return abs((a - b + 180) % 360 - 180)


def name_colour(cfg: WorldConfig, colour: tuple[float, float, float]) -> str | None:
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    name = min(cfg.colours, key=lambda c: hue_gap(360 * hue, HUES[c]))
    close = hue_gap(360 * hue, HUES[name]) <= HUE_TOLERANCE
    return name if close and min(saturation, value) >= MIN_CHROMA else None


def name_background(cfg: WorldConfig, colour: np.ndarray) -> str | None:
    gap = {b: float(np.linalg.norm(colour - np.array(BACKGROUNDS[b]))) for b in cfg.backgrounds}
    name = min(gap, key=lambda b: gap[b])
    return name if gap[name] <= BACKGROUND_TOLERANCE else None
