"""Things drawn as frames: their area, and what the judges say of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep.worlds.shapes.judge import judge, layouts
from fewstep.worlds.shapes.prompts import CONCEPT, Role, look_of, scene_for, understand
from fewstep.worlds.shapes.render import coverage, render
from fewstep.worlds.shapes.scene import OUTLINES, Look, Outline, Style, Thing
from fewstep.worlds.shapes.world import Shapes

WORLD = Shapes()
STYLE = Style(0.4)
PROMPTS = WORLD.prompts("test", 60)


def drawn(style: Style | None) -> np.ndarray:
    rng = np.random.default_rng(0)
    scenes = [scene_for(WORLD.cfg, understand(prompt), rng, style) for prompt in PROMPTS]
    return render(scenes, WORLD.cfg.side)


FRAMES, FILLED = drawn(STYLE), drawn(None)


def thing(outline: Outline, radius: float = 0.17) -> Thing:
    return Thing(0.5, 0.5, radius, 0.2, (1.0, 0.0, 0.0), outline)


@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("hollow", [0.3, 0.6])
def test_a_frame_is_the_shape_without_the_hole(name: str, hollow: float) -> None:
    whole = thing(OUTLINES[name])
    frame = thing(Style(hollow).drawn(OUTLINES[name]))
    inner = thing(OUTLINES[name], hollow * 0.17)
    found, outer, hole = coverage([frame, whole, inner], 64)
    np.testing.assert_allclose(found, outer - hole, atol=1e-6)
    fine, whole_fine = coverage([frame, whole], 512).mean((1, 2))
    assert fine / whole_fine == pytest.approx(1 - hollow**2, rel=0.01)


def test_what_is_filled_is_drawn_as_before_beside_a_frame() -> None:
    circle, frame = thing(OUTLINES["circle"]), thing(STYLE.drawn(OUTLINES["cross"]))
    assert np.array_equal(coverage([circle], 64)[0], coverage([frame, circle], 64)[1])
    assert coverage([circle], 64).mean() == pytest.approx(math.pi * 0.17**2, rel=0.01)


def test_frames_are_right_in_their_style_and_wrong_without() -> None:
    of_style = [STYLE] * len(PROMPTS)
    assert judge(FRAMES, PROMPTS, WORLD.cfg, of_style)["all"].all()
    assert not judge(FRAMES, PROMPTS, WORLD.cfg)["all"].any()
    assert judge(FILLED, PROMPTS, WORLD.cfg)["all"].all()
    assert not judge(FILLED, PROMPTS, WORLD.cfg, of_style)["all"].any()
    # colour and number do not depend on how a thing is drawn
    wrong = judge(FILLED, PROMPTS, WORLD.cfg, of_style)
    assert wrong["count"].all() and wrong["colour"].all() and not wrong["shape"].any()


def test_other_prompts_are_judged_as_those_of_the_same_scenes_filled() -> None:
    others = PROMPTS[1:] + PROMPTS[:1]
    found = judge(FRAMES, others, WORLD.cfg, [STYLE] * len(others))
    expected = judge(FILLED, others, WORLD.cfg)
    assert found["all"].mean() < 0.05
    for part, own in expected.items():
        np.testing.assert_array_equal(found[part], own, part)


def test_layouts_are_those_of_the_same_scenes_filled() -> None:
    frames = layouts(FRAMES, PROMPTS, WORLD.cfg, [STYLE] * len(PROMPTS))
    np.testing.assert_allclose(frames, layouts(FILLED, PROMPTS, WORLD.cfg), atol=0.01)


def test_a_style_has_no_look_of_its_own() -> None:
    assert look_of(Role("square", "blue"), STYLE) == Look(240, STYLE.drawn(OUTLINES["square"]))
    with pytest.raises(ValueError, match="pass the concept it stands for"):
        look_of(Role(CONCEPT), STYLE)
    with pytest.raises(ValueError, match="pass the concept that it stands for"):
        judge(FRAMES[:1], [f"a {CONCEPT}"], WORLD.cfg, [STYLE])
    with pytest.raises(ValueError, match=r"hollow must lie in \[0, 1\), got 1"):
        Style(1.0).drawn(OUTLINES["square"])
