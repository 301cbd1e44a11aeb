"""The renderer against areas and symmetries known in closed form."""

import math

import numpy as np
import pytest

from fewstep.worlds.shapes.render import coverage, render
from fewstep.worlds.shapes.scene import OUTLINES, Outline, Scene, Thing

RED = (1.0, 0.0, 0.0)
GREEN = (0.0, 1.0, 0.0)


def thing(outline: Outline, radius=0.15, angle=0.0, x=0.5, y=0.5, colour=RED) -> Thing:
    return Thing(x, y, radius, angle, colour, outline)


def area_of(outline: Outline, radius: float) -> float:
    """Twice `points` triangles (centre, tip, valley) for a star with straight sides."""
    tip = radius * outline.reach()
    return outline.points * tip * tip * outline.inner * math.sin(math.pi / outline.points)


@pytest.mark.parametrize("radius", [0.09, 0.13, 0.17])
@pytest.mark.parametrize("spot", [(0.5, 0.5), (0.37, 0.61)])
def test_the_area_of_a_circle(radius: float, spot: tuple[float, float]) -> None:
    circle = thing(OUTLINES["circle"], radius, x=spot[0], y=spot[1])
    assert coverage([circle], 64).mean() == pytest.approx(math.pi * radius**2, rel=0.01)


@pytest.mark.parametrize("name", ["triangle", "square", "star", "cross"])
def test_the_area_of_straight_sides(name: str) -> None:
    drawn = coverage([thing(OUTLINES[name], 0.17, angle=0.3)], 256).mean()
    assert drawn == pytest.approx(area_of(OUTLINES[name], 0.17), rel=0.01)


@pytest.mark.parametrize("name", OUTLINES)
def test_a_shape_is_unchanged_by_its_symmetry_and_changed_by_half_of_it(name: str) -> None:
    outline = OUTLINES[name]
    period = 2 * math.pi / outline.points
    start, turned, half = coverage(
        [thing(outline, angle=a) for a in (0.2, 0.2 + period, 0.2 + period / 2)], 64
    )
    np.testing.assert_allclose(start, turned, atol=1e-3)
    assert (np.abs(start - half).max() > 0.5) == (name != "circle")


def test_a_quarter_turn_of_the_thing_turns_the_picture() -> None:
    upright, turned = coverage(
        [thing(OUTLINES["triangle"], angle=a) for a in (0.1, 0.1 + math.pi / 2)], 64
    )
    np.testing.assert_allclose(np.rot90(upright, -1), turned, atol=1e-3)


def test_angle_zero_points_up() -> None:
    rows = coverage([thing(OUTLINES["triangle"])], 64)[0].sum(1)
    inside = np.flatnonzero(rows > 0)
    assert rows[inside[1]] < rows[inside[-2]]


def test_later_things_lie_on_top_and_the_rest_is_background() -> None:
    circle = OUTLINES["circle"]
    scene = Scene((0.5, 0.5, 0.5), (thing(circle), thing(circle, 0.09, colour=GREEN)))
    image = render([scene])[0]
    assert image.shape == (3, 64, 64) and image.dtype == np.float32
    np.testing.assert_allclose(image[:, 32, 32], GREEN, atol=1e-6)
    np.testing.assert_allclose(image[:, 32, 40], RED, atol=1e-6)
    np.testing.assert_allclose(image[:, 0, 0], 0.5)


def test_a_batch_equals_its_scenes_one_by_one() -> None:
    one = Scene((0.1, 0.2, 0.3), (thing(OUTLINES["star"]),))
    pair = (thing(OUTLINES["cross"], x=0.3), thing(OUTLINES["square"], x=0.7))
    two = Scene((0.9, 0.8, 0.7), pair)
    np.testing.assert_array_equal(
        render([one, two, one]), np.concatenate([render([s]) for s in (one, two, one)])
    )
