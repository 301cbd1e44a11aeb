"""The judge: compares what the parser finds in pictures with what their prompts asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from fewstep.worlds.shapes.parse import Found, Picture, hue_gap, read
from fewstep.worlds.shapes.prompts import CONCEPT, Role, Spec, understand
from fewstep.worlds.shapes.scene import Concept, Look, WorldConfig, related

PARTS = ("count", "colour", "shape", "size", "background", "relation")

RELATION_SLACK = 0.02

CONCEPT_HUE = 15.0
CONCEPT_IOU = 0.85
COPIED = 0.05
"""A concept whose centre lies nearer than this to that of its reference is a copied layout."""


def judge(
    images: np.ndarray,
    prompts: Sequence[str],
    cfg: WorldConfig | None = None,
    concepts: Sequence[Concept | None] | None = None,
) -> dict[str, np.ndarray]:
    """Over the pictures: "all", a boolean array, and each of `PARTS`, float64: 1 right, 0 wrong,
    NaN where the prompt does not ask for it.

    A part is right when every asked object has a found one that is right in it; objects are
    assigned so that most is right. "count" is wrong as soon as anything is missing or left over.
    """
    cfg = cfg or WorldConfig()
    looks = check_lengths(images, prompts, concepts)
    verdicts = [
        judge_one(picture, understand(prompt), cfg, look)
        for picture, prompt, look in zip(read(images, cfg, looks), prompts, looks, strict=True)
    ]
    parts = {
        part: np.array([np.nan if v[part] is None else v[part] for v in verdicts], np.float64)
        for part in PARTS
    }
    wrong = [own == 0 for own in parts.values()]  # NaN is not: what was not asked cannot be wrong
    return {"all": ~np.any(wrong, axis=0), **parts}


def layouts(
    images: np.ndarray,
    prompts: Sequence[str],
    cfg: WorldConfig | None = None,
    concepts: Sequence[Concept | None] | None = None,
) -> np.ndarray:
    """(n, 3 k) float64, k the most objects of the level or of a prompt: x, y, radius of each asked
    object in the order of the roles (objects of one role from left to right); NaN where not asked,
    or missing, or unlike what was asked in colour and in shape."""
    cfg = cfg or WorldConfig()
    looks = check_lengths(images, prompts, concepts)
    specs = [understand(prompt) for prompt in prompts]
    most = max([cfg.max_objects, *(len(expand(spec.roles)) for spec in specs)])
    table = np.full((len(prompts), most, 3), np.nan)
    pictures = read(images, cfg, looks)
    for i, (picture, spec, look) in enumerate(zip(pictures, specs, looks, strict=True)):
        roles = spec.roles
        asked = expand(roles)
        spots = [
            (found.x, found.y, found.radius)
            if found is not None and (colour_right(found, role, look) or shape_right(found, role))
            else (np.nan, np.nan, np.nan)
            for role, found in zip(asked, assign(picture, asked, cfg, look), strict=True)
        ]
        start = 0
        for role in roles:
            group = sorted(spots[start : start + role.count], key=lambda s: (np.isnan(s[0]), s))
            table[i, start : start + role.count] = group
            start += role.count
    return table.reshape(len(prompts), -1)


def check_lengths(
    images: np.ndarray, prompts: Sequence[str], concepts: Sequence[Concept | None] | None
) -> Sequence[Concept | None]:
    looks = concepts if concepts is not None else [None] * len(prompts)
    if not len(images) == len(prompts) == len(looks):
        raise ValueError(
            f"{len(images)} images, {len(prompts)} prompts and {len(looks)} concepts do not match"
        )
    return looks


def expand(roles: Sequence[Role]) -> list[Role]:
    """One entry for each asked object."""
    return [role for role in roles for _ in range(role.count)]


def judge_one(
    picture: Picture, spec: Spec, cfg: WorldConfig, look: Concept | None = None
) -> dict[str, bool | None]:
    """Whether each of `PARTS` is right; None where the spec does not ask for it."""
    asked = expand(spec.roles)
    matched = assign(picture, asked, cfg, look)
    pairs = list(zip(asked, matched, strict=True))
    sized = [(role, found) for role, found in pairs if role.size]
    first, second = matched[0], matched[spec.roles[0].count % len(matched)]
    return {
        "count": len(picture.found) == len(asked),
        "colour": all(f is not None and colour_right(f, r, look) for r, f in pairs),
        "shape": all(f is not None and shape_right(f, r) for r, f in pairs),
        "size": None if not sized
        else all(f is not None and size_right(f, r, cfg) for r, f in sized),
        "background": None if spec.background is None
        else picture.background == spec.background,
        "relation": None if spec.relation is None
        else bool(first and second and holds(spec.relation, first, second)),
    }  # fmt: skip


def assign(
    picture: Picture, asked: Sequence[Role], cfg: WorldConfig, look: Concept | None
) -> list[Found | None]:
    """A different found object for each asked one, so that the sum of their merits is greatest."""
    found = sorted(picture.found, key=lambda f: -f.radius)[: len(asked) + 2]
    merit = [[worth(f, role, cfg, look) for f in found] for role in asked]
    gone = max(len(asked) - len(found), 0)
    ways = itertools.permutations(range(len(found) + gone), len(asked))
    best = max(
        ways, key=lambda way: sum(merit[i][j] for i, j in enumerate(way) if j < len(found))
    )  # fmt: skip
    return [found[j] if j < len(found) else None for j in best]


def worth(found: Found, role: Role, cfg: WorldConfig, look: Concept | None) -> float:
    """Colour and shape decide; size breaks ties; a found object beats none."""
    right = colour_right(found, role, look) + shape_right(found, role)
    sized = role.size is None or size_right(found, role, cfg)
    return 1 + 4 * right + sized


def colour_right(found: Found, role: Role, look: Concept | None) -> bool:
    if role.shape != CONCEPT:
        return found.colour == role.colour
    if not isinstance(look, Look):
        raise ValueError(f"a prompt asks for {CONCEPT}: pass the concept that it stands for")
    return hue_gap(found.hue, look.hue) <= CONCEPT_HUE


def shape_right(found: Found, role: Role) -> bool:
    if role.shape != CONCEPT:
        return found.shape == role.shape
    return found.likeness[CONCEPT] >= CONCEPT_IOU


def size_right(found: Found, role: Role, cfg: WorldConfig) -> bool:
    """On its side of the middle: half of the unnamed range is left to each named one."""
    middle = sum(cfg.radius) / 2
    return found.radius < middle if role.size == "small" else found.radius > middle


def holds(relation: str, first: Found, second: Found) -> bool:
    """The relation, up to a small error of the centres."""
    shifts = [(0.0, 0.0)] + [
        (dx, dy) for dx in (-RELATION_SLACK, 0, RELATION_SLACK)
        for dy in (-RELATION_SLACK, 0, RELATION_SLACK)
    ]  # fmt: skip
    spot = (first.x, first.y)
    return any(related(relation, spot, (second.x + dx, second.y + dy)) for dx, dy in shifts)


def judge_concept(
    images: np.ndarray,
    looks: Sequence[Look],
    references: np.ndarray | None = None,
    cfg: WorldConfig | None = None,
) -> dict[str, np.ndarray]:
    """How well each picture shows its concept, a look that has no name.

    "hue": degrees off; "outline": soft IoU with the concept's own outline; "right": exactly one
    object, hue within `CONCEPT_HUE` and IoU at least `CONCEPT_IOU`; with the reference pictures
    also "moved" (distance of the centres) and "new" (right and not `COPIED`). The nearest object
    in looks counts; where there is none, errors are NaN and verdicts False.
    """
    cfg = cfg or WorldConfig()
    pictures = read(images, cfg, looks)
    nearest = [closest(p, look) for p, look in zip(pictures, looks, strict=True)]
    rows = [
        (hue_gap(f.hue, look.hue), f.likeness[CONCEPT]) if f else (np.nan, np.nan)
        for f, look in zip(nearest, looks, strict=True)
    ]
    hue, outline = np.array(rows, float).reshape(-1, 2).T
    single = np.array([len(p.found) == 1 for p in pictures], bool)
    right = single & (hue <= CONCEPT_HUE) & (outline >= CONCEPT_IOU)
    verdict = {"hue": hue, "outline": outline, "right": right}
    if references is not None:
        shown = [
            closest(p, look) for p, look in zip(read(references, cfg, looks), looks, strict=True)
        ]
        moved = np.array(
            [
                math.hypot(f.x - s.x, f.y - s.y) if f and s else np.nan
                for f, s in zip(nearest, shown, strict=True)
            ]
        )
        verdict |= {"moved": moved, "new": right & (moved > COPIED)}
    return verdict


def closest(picture: Picture, look: Look) -> Found | None:
    return max(
        picture.found,
        key=lambda f: f.likeness[CONCEPT] - hue_gap(f.hue, look.hue) / 180,
        default=None,
    )
