"""Plots, read as their reader does: where the ticks say that lines, bands and gaps are."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.unit.report.drawing import Drawing, same, series

from fewstep.report.health import GAP
from fewstep.report.plots import COLOURS, Line, Panel, svg, thinned


def one(*lines: Line, **options: object) -> Drawing:
    return Drawing(svg(Panel(title="T", lines=lines, **options)))  # type: ignore[arg-type]


def test_a_line_is_drawn_through_its_values_and_broken_where_they_are_missing() -> None:
    values = series(0.0, 1.0, math.nan, 0.5, 0.6, math.inf, 1.0, math.nan, math.nan, 0.2)
    drawing = one(Line("a", values, "var(--k3)"))
    pair, other = drawing.lines("var(--k3)")
    same(pair, [(0, 0), (1, 1)])
    same(other, [(3, 0.5), (4, 0.6)])
    same(drawing.dots("var(--k3)"), [(6, 1), (9, 0.2)])  # values on their own
    assert all(own["fill"] == "none" for own, _ in drawing.paths if "stroke" in own)


def test_dashes_and_colours_are_those_of_the_lines() -> None:
    mixed = "color-mix(in oklab, var(--ramp-to) 50%, var(--ramp-from))"
    drawing = one(
        Line("a", series(0.0, 1.0), "var(--k0)"), Line("b", series(1.0, 3.0), mixed, dashed=True)
    )
    same(drawing.lines("var(--k0)"), [[(0, 0), (1, 1)]])
    same(drawing.lines(mixed), [[(0, 1), (1, 3)]])
    dashes = {own["stroke"]: own.get("stroke-dasharray") for own, _ in drawing.paths}
    assert dashes["var(--k0)"] is None and dashes[mixed] == "5,3"


def test_steps_begin_at_nought_and_are_whole_numbers() -> None:
    drawing = one(Line("a", series(1.0, 2.0, start=1), "red"))
    assert drawing.ticks("middle") == [0, 1, 2]
    assert one(Line("a", series(1.0), "red")).ticks("middle") == [0, 1]
    assert len(one(Line("a", series(*range(400)), "red")).ticks("middle")) in range(3, 7)


def edges(drawing: Drawing, state: str) -> list[tuple[float, float, float, float]]:
    """Of the bands of a state: first and last step, low and high."""
    found = []
    for own, (outline, *_) in drawing.paths:
        if own.get("fill") == f"var(--{state}-soft)":
            x, y = zip(*drawing.at(outline), strict=True)
            found.append((min(x), max(x), min(y), max(y)))
    return found


def test_bands_begin_with_the_student_and_end_at_their_values() -> None:
    values = series(*np.linspace(0, 2, 11))
    drawing = one(Line("a", values, "red"), bands=GAP, bands_from=4.0)
    same(edges(drawing, "good"), [(4, 10, 0.02, 1.0)])
    # open bands go on to the edge of the frame, a twentieth of the range beyond the values
    same(edges(drawing, "bad"), [(4, 10, -0.1, 0.02), (4, 10, 1.4, 2.1)])
    # beneath the lines and the grid
    order = [own.get("fill") == "none" for own, _ in drawing.paths]
    assert order == sorted(order) and order.count(False) == 3


def test_a_band_beyond_the_frame_is_not_drawn_and_zero_is_seen_beside_a_dead_gap() -> None:
    low = one(Line("a", series(0.1, 0.2), "red"), bands=GAP)
    same(edges(low, "good"), [(0, 1, 0.02, 0.21)])
    same(edges(low, "bad"), [(0, 1, -0.01, 0.02)])
    assert edges(one(Line("a", series(0.1, 0.2), "red"), bands=GAP, bands_from=1.0), "bad") == []
    assert min(low.ticks("end")) == 0 < min(one(Line("a", series(0.1, 0.2), "red")).ticks("end"))


def test_shares_are_shown_from_nought_to_one_and_nothing_leaves_the_frame() -> None:
    drawing = one(Line("a", series(0.4, 0.5), "red"), share=True)
    assert (min(drawing.ticks("end")), max(drawing.ticks("end"))) == (0, 1)
    wild = one(Line("a", series(0.4, 73.0), "red"), share=True)
    (((_, low), (_, high)),) = next(found for own, found in wild.paths if own["stroke"] == "red")
    assert 0 < high < low < 220
    same(wild.lines("red"), [[(0, 0.4), (1, 73)]])


def test_a_value_that_never_changes_stands_in_the_middle() -> None:
    same(one(Line("a", series(3.0, 3.0), "red")).lines("red"), [[(0, 3), (1, 3)]])
    assert one(Line("a", series(3.0, 3.0), "red")).ticks("end") == [2, 3, 4]
    assert one(Line("a", series(0.0, 0.0), "red")).ticks("end") == [-1, -0.5, 0, 0.5, 1]
    nothing = one(Line("a", series(math.nan, math.nan), "red"))
    assert nothing.ticks("end") == [0, 0.5, 1] and nothing.lines("red") == []


def test_the_drawing_leaves_colour_font_and_width_to_the_page() -> None:
    text = svg(Panel(title='"<T>" & $x$', lines=[Line("a", series(0.0, 1.0), "var(--k0)")]))
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img" and root.get("aria-label") == '"<T>" & $x$ against step'
    assert root.get("viewBox") == "0 0 360 220"
    assert root.get("width") is None and root.get("height") is None
    assert not re.search("#[0-9a-f]{6}\\b|rgb\\(|<style|<metadata|<clipPath|url\\(", text)
    assert text.startswith("<svg")


def test_names_within_the_drawings_of_a_page_differ_and_stay_from_time_to_time() -> None:
    panels = [
        Panel(title="T", lines=[Line("a", series(0.0, last), "var(--k0)")]) for last in (1.0, 0.9)
    ]
    drawings = [svg(panel) for panel in panels]
    first, second = (set(re.findall(' id="(.*?)"', drawing)) for drawing in drawings)
    assert first and second and not first & second
    for drawing, names in zip(drawings, (first, second), strict=True):
        assert set(re.findall('href="#(.*?)"', drawing)) == names  # none that nothing refers to
    assert [svg(panel) for panel in panels] == drawings


def test_a_panel_of_a_few_lines_is_small() -> None:
    noise = np.random.default_rng(0).normal(size=(6, 2000))
    lines = [Line(str(i), series(*own), COLOURS[i]) for i, own in enumerate(noise)]
    assert len(svg(Panel(title="T", lines=lines[:4], bands=GAP)).encode()) < 30_000


def test_thinning_keeps_the_mean_and_skips_what_is_not_finite() -> None:
    values = np.arange(1000.0)[:, None]
    values[3] = np.inf
    steps, found = thinned(np.arange(1000.0), values, points=10)
    assert len(steps) == 10
    assert found[1, 0] == pytest.approx(149.5)
    assert found[0, 0] == pytest.approx((99 * 100 / 2 - 3) / 99)
