"""What the judges of the Shapes world say of pictures of a concept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from benchmarks.dopsd_concepts import Taught, scenes

from fewstep.shapes import Pixels
from fewstep.worlds.shapes import judge as judges
from fewstep.worlds.shapes.prompts import CONCEPT, understand
from fewstep.worlds.shapes.world import Shapes


def verdicts(
    world: Shapes, one: Taught, images: Pixels, texts: Sequence[str]
) -> dict[str, np.ndarray]:
    """What the judges say of each picture of a prompt of the world.

    "right" (everything asked, the concept among it), "asked" (count, size and background, whatever
    the look), "copied" (every thing of the concept stands where a training picture shows one),
    "success" (right and not copied), and "layouts", (n, 3 k).
    """
    shown, looks = images.numpy(), [one.concept] * len(texts)
    parts = judges.judge(shown, texts, world.cfg, looks)
    layouts = judges.layouts(shown, texts, world.cfg, looks)
    places = np.array([(t.x, t.y) for scene in scenes(world, one) for t in scene.things])
    wrong = [parts[part] == 0 for part in ("count", "size", "background")]
    copied = np.array([
        is_copied(row.reshape(-1, 3)[columns, :2], places)
        for row, columns in zip(layouts, map(own_things, texts), strict=True)
    ])  # fmt: skip
    return {
        "right": parts["all"], "asked": ~np.any(wrong, axis=0), "copied": copied,
        "success": parts["all"] & ~copied, "layouts": layouts,
    }  # fmt: skip


def own_things(text: str) -> list[int]:
    """Which of a prompt's things show the concept: all of them where the prompt names none."""
    asked = judges.expand(understand(text).roles)
    own = [i for i, role in enumerate(asked) if role.shape == CONCEPT]
    return own or list(range(len(asked)))


def is_copied(spots: np.ndarray, places: np.ndarray) -> bool:
    """Whether each of the found (n, 2) lies at one of the shown places (m, 2)."""
    known = spots[~np.isnan(spots).any(1)]
    away = np.linalg.norm(known[:, None] - places[None], axis=2)
    return len(known) > 0 and bool((away.min(1) <= judges.COPIED).all())
