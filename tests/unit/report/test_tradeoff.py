"""Trade-offs, read as their reader does: points, intervals, and labels that can be told apart."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import ImageFont
from tests.unit.report.drawing import Drawing, same

from fewstep.report.results import Number, Point, TradeOff
from fewstep.report.tradeoff import tradeoff


def estimate(value: float, half: float | None) -> Number:
    if half is None:
        return Number(value, math.nan, math.nan, 8, 2, 1)
    return Number(value, value - half, value + half, 8, 2, 1)


def test_a_trade_off_has_its_points_in_order_and_intervals_in_both_directions() -> None:
    points = [
        Point(label="4 <$steps$>", x=estimate(0.0, 0.5), y=estimate(0.0, 1.0)),
        Point(label="8", x=estimate(2.0, None), y=estimate(4.0, 1.0)),
        Point(label="none", x=estimate(math.nan, None), y=estimate(1.0, 1.0)),
        Point(label="2", x=estimate(1.0, None), y=estimate(2.0, None)),
    ]
    other = [Point(label="", x=Number(3.0, 3.1, 3.4, 8, 2, 1), y=estimate(-1.0, None))]
    curve = TradeOff(title="T", caption="", x="d $", y="q", lines={"m": points, "n": other})
    drawing = Drawing(tradeoff(curve))
    same(drawing.dots("var(--k0)"), [(0, 0), (2, 4), (1, 2)])
    path, *bars = drawing.lines("var(--k0)")
    same(path, [(0, 0), (2, 4), (1, 2)])
    same(bars, [[(-0.5, 0), (0.5, 0)], [(0, -1), (0, 1)], [(2, 3), (2, 5)]])
    # an interval that leaves its value out is drawn where it is
    same(drawing.dots("var(--k1)"), [(3, -1)])
    same(drawing.lines("var(--k1)"), [[(3.1, -1), (3.4, -1)]])
    names = [text for text, own, *_ in drawing.texts if own["fill"] == "var(--ink)"]
    assert [name for name in names if name] == ["4 <$steps$>", "8", "2"]
    assert {"d $", "q"} <= {text for text, *_ in drawing.texts}
    assert drawing.root.get("aria-label") == "T: q against d $"


def test_points_and_their_intervals_tell_their_numbers() -> None:
    point = Point(label="4 <steps>", x=estimate(0.0, 0.5), y=estimate(0.0, 1.0))
    # a number of steps is known: an interval without width is none
    lone = Point(label="8", x=Number(30.0, 30.0, 30.0, 8, 2, 1), y=estimate(4.0, None))
    curve = TradeOff(title="T", caption="", x="d", y="q", lines={"m": [point, lone]})
    root = Drawing(tradeoff(curve)).root
    tips = [(e, e[0].text) for e in root.iter() if len(e) and e[0].tag.endswith("title")]
    told = "4 <steps>: x 0.00, \u22120.50 to 0.50; y 0.0, \u22121.0 to 1.0"
    assert [text for _, text in tips] == [told, told, told, *2 * ["8: x 30; y 4.0"]]
    assert all(any(e.tag.endswith(("use", "path")) for e in g.iter()) for g, _ in tips)


def boxes(drawing: Drawing) -> dict[str, tuple[float, float, float, float]]:
    """left, top, right, bottom of the labels, measured without what drew them."""
    file = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(str(file), 11)
    found = {}
    for text, own, x, y in drawing.texts:
        if own["fill"] == "var(--ink)":
            length = font.getlength(text)
            left = x - length * {"start": 0, "middle": 0.5, "end": 1}[own["text-anchor"]]
            found[text] = (left, y - 8, left + length, y + 2)
    return found


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_labels_stand_by_their_points_without_covering_one_another() -> None:
    # the second stands where the label of the first would like to be
    near = [(0.0, 0.0), (0.05, 0.055), (0.02, 0.0)]
    points = [
        Point(label=f"p {i}", x=estimate(x, None), y=estimate(y, None))
        for i, (x, y) in enumerate(near)
    ]
    far = Point(label="far to the right", x=estimate(1.0, None), y=estimate(1.0, None))
    curve = TradeOff(title="T", caption="", x="x", y="y", lines={"m": [*points, far]})
    drawing = Drawing(tradeoff(curve))
    found = boxes(drawing)
    assert list(found) == ["p 0", "p 1", "p 2", "far to the right"]
    assert not any(overlap(a, b) for a, b in combinations(found.values(), 2))
    places = [place for fill, place in drawing.marks if fill == "var(--k0)"]
    for (x, y), (left, top, right, bottom) in zip(places, found.values(), strict=True):
        assert min(left, top) >= 0 and right <= 440 and bottom <= 300
        assert not any(overlap((a - 4, b - 4, a + 4, b + 4), (left, top, right, bottom))
                       for a, b in places)  # fmt: skip
        assert max(left - x, x - right, top - y, y - bottom) < 12


def crosses(line: list[tuple[float, float]], box: tuple[float, float, float, float]) -> bool:
    """Whether a line of straight pieces enters a box, by stepping along it."""
    steps = np.linspace(0, 1, 400)
    for (x0, y0), (x1, y1) in pairwise(line):
        x, y = x0 + steps * (x1 - x0), y0 + steps * (y1 - y0)
        if ((box[0] < x) & (x < box[2]) & (box[1] < y) & (y < box[3])).any():
            return True
    return False


def test_labels_do_not_stand_on_lines_or_intervals() -> None:
    # the first side of every point of a rising line is on it, and of a falling one the second
    rising = [(0.0, 0.0), (1.0, 0.4), (2.0, 0.8), (3.0, 1.3)]
    lines = {
        "up": [Point(label=f"up {i}", x=estimate(x, 0.1), y=estimate(y, 0.08))
               for i, (x, y) in enumerate(rising)],
        "down": [Point(label=f"down {i}", x=estimate(3.2 - x, 0.1), y=estimate(y - 0.9, None))
                 for i, (x, y) in enumerate(rising)],
    }  # fmt: skip
    drawing = Drawing(tradeoff(TradeOff(title="T", caption="", x="x", y="y", lines=lines)))
    found = boxes(drawing)
    assert len(found) == 8
    strokes = [
        piece for own, pieces in drawing.paths for piece in pieces
        if own.get("stroke", "").startswith("var(--k")
    ]  # fmt: skip
    assert len(strokes) == 2 + 8 + 4
    for label, box in found.items():
        assert not any(crosses(line, box) for line in strokes), label


def test_a_label_that_no_side_is_free_for_is_still_drawn() -> None:
    points = [Point(label=f"p {i}", x=estimate(0.0, 1.0), y=estimate(0.0, 1.0)) for i in range(9)]
    curve = TradeOff(title="T", caption="", x="x", y="y", lines={"m": points})
    assert len(boxes(Drawing(tradeoff(curve)))) == 9


def test_letters_that_the_layout_has_no_font_for_are_left_to_the_browser(
    recwarn: pytest.WarningsRecorder,
) -> None:
    points = [Point(label="\u5706", x=estimate(0.0, 1.0), y=estimate(0.0, 1.0))]
    drawing = Drawing(
        tradeoff(TradeOff(title="", caption="", x="\u5f62", y="y", lines={"m": points}))
    )
    assert {"\u5706", "\u5f62"} <= {text for text, *_ in drawing.texts}
    assert list(recwarn) == []
