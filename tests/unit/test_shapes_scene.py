"""The layout distribution: inside the canvas, apart, as asked."""

import itertools
import math

import numpy as np
import pytest

from fewstep.worlds.shapes.prompts import RELATIONS
from fewstep.worlds.shapes.scene import (
    BACKGROUNDS,
    CROWDED,
    HUES,
    OUTLINES,
    Look,
    Outline,
    Wanted,
    WorldConfig,
    draw_concept,
    draw_scene,
    related,
)

CFG = CROWDED
LOOKS = [Look(h, o) for h in HUES.values() for o in OUTLINES.values()]


def scenes(count: int, sizes=(None,), relation=None, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(count):
        wanted = tuple(Wanted(LOOKS[(7 * i + 11 * j) % 30], s) for j, s in enumerate(sizes))
        yield wanted, draw_scene(CFG, wanted, None, relation, rng)


def test_things_lie_inside_and_apart() -> None:
    for _, scene in scenes(500, (None, None, None)):
        extent = [t.radius * t.outline.reach() for t in scene.things]
        for thing, e in zip(scene.things, extent, strict=True):
            assert e < thing.x < 1 - e and e < thing.y < 1 - e
        for (a, ea), (b, eb) in itertools.combinations(
            zip(scene.things, extent, strict=True), 2
        ):  # fmt: skip
            assert math.hypot(a.x - b.x, a.y - b.y) > ea + eb + CFG.gap


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_asked_relation_holds(relation: str) -> None:
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for _, scene in scenes(100, (None, None), relation):
        first, second = ((t.x, t.y) for t in scene.things)
        assert related(relation, first, second)
        assert related(inverse[relation], second, first)
        assert sum(related(r, first, second) for r in RELATIONS) == 1


def test_left_and_above_follow_the_axes_of_a_picture() -> None:
    assert related("left of", (0.2, 0.5), (0.8, 0.5))
    assert related("above", (0.5, 0.2), (0.5, 0.8))
    assert not related("above", (0.2, 0.4), (0.8, 0.6))


def test_sizes_take_the_outer_quarters_of_the_range() -> None:
    low, high = CFG.radius
    quarter = (high - low) / 4
    for _, scene in scenes(200, ("small", "large")):
        small, large = scene.things
        assert low <= small.radius <= low + quarter
        assert high - quarter <= large.radius <= high


def test_the_order_of_things_is_that_of_the_wishes() -> None:
    for wanted, scene in scenes(50, (None, None)):
        assert [t.outline for t in scene.things] == [w.look.outline for w in wanted]


def test_backgrounds_stay_near_their_names() -> None:
    for _, scene in scenes(200):
        gaps = [np.abs(np.subtract(scene.background, c)).max() for c in BACKGROUNDS.values()]
        assert min(gaps) <= 0.03 + 1e-9


def test_concepts_reach_beyond_the_names() -> None:
    rng = np.random.default_rng(0)
    looks = [draw_concept(rng) for _ in range(200)]
    assert {look.outline.points for look in looks} == {3, 4, 5, 6}
    assert np.ptp([look.hue for look in looks]) > 300
    assert all(0 <= look.outline.roundness <= 0.5 for look in looks)


def test_what_cannot_fit_is_refused() -> None:
    cfg = WorldConfig(radius=(0.3, 0.3))
    with pytest.raises(ValueError, match="no layout fits 3 objects"):
        draw_scene(cfg, (Wanted(LOOKS[0]),) * 3, None, None, np.random.default_rng(0))
    with pytest.raises(ValueError, match="'small' or 'large'"):
        wanted = (Wanted(Look(0, Outline(3, 0.5)), "huge"),)
        draw_scene(CFG, wanted, None, None, np.random.default_rng(0))
