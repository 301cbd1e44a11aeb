"""Series to draw, and what a reader takes from their drawing."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np

from fewstep.report.collect import Series


def series(*values: float, start: int = 0) -> Series:
    return Series(np.arange(start, start + len(values), dtype=float), np.array(values)[:, None])


class Drawing:
    """An SVG file as lists of its marks, in the order in which they are drawn.

    The scales come from the ticks and the numbers beside them, so what is read back has come all
    the way to the reader.
    """

    def __init__(self, text: str) -> None:
        self.root = ElementTree.fromstring(text)
        self.paths = [
            (styled(e), pieces(e.get("d", "")))
            for parent in self.root.iter() if not parent.tag.endswith("defs")
            for e in parent if e.tag.endswith("path")
        ]  # fmt: skip
        self.marks = [
            (styled(e)["fill"], (float(e.attrib["x"]), float(e.attrib["y"])))
            for e in self.root.iter() if e.tag.endswith("use")
        ]  # fmt: skip
        self.texts = [
            (e.text or "", styled(e), float(e.get("x", "nan")), float(e.get("y", "nan")))
            for e in self.root.iter() if e.tag.endswith("text")
        ]  # fmt: skip
        grid = [found[0][0][1] for own, found in self.paths if own.get("stroke") == "var(--line)"]
        feet = [x for fill, (x, _) in self.marks if "var(--soft)" in fill]
        self.x = scale(self.ticks("middle"), feet)
        self.y = scale(self.ticks("end"), grid)

    def ticks(self, anchor: str) -> list[float]:
        """The numbers below the one axis (middle) or beside the other (end)."""
        return [
            float(text.replace("\u2212", "-"))
            for text, own, *_ in self.texts
            if own["text-anchor"] == anchor and own["fill"] == "var(--soft)"
            and re.fullmatch(r"\u2212?[\d.]+", text)
        ]  # fmt: skip

    def at(self, places: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Places of the drawing as values on the axes."""
        return [(self.x(x), self.y(y)) for x, y in places]

    def lines(self, colour: str) -> list[list[tuple[float, float]]]:
        """The values that lines of a colour go through, unbroken piece by unbroken piece."""
        return [
            self.at(piece)
            for own, found in self.paths if own.get("stroke") == colour for piece in found
            if len(piece) > 1  # a point alone leaves no stroke
        ]  # fmt: skip

    def dots(self, colour: str) -> list[tuple[float, float]]:
        return self.at([place for fill, place in self.marks if fill == colour])


def styled(element: ElementTree.Element) -> dict[str, str]:
    parts = (part.split(": ") for part in element.get("style", "").split("; ") if part)
    return {name: value for name, value in parts}


def pieces(path: str) -> list[list[tuple[float, float]]]:
    found = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", piece) for piece in path.split("M")[1:]]
    return [[(float(x), float(y)) for x, y in piece] for piece in found]


def scale(values: list[float], places: list[float]) -> Callable[[float], float]:
    """From places to values; the ticks must agree about it."""
    assert len(values) == len(places) >= 2
    slope, start = np.polyfit(places, values, 1)
    np.testing.assert_allclose(np.polyval([slope, start], places), values, atol=1e-6)
    return lambda place: float(slope * place + start)


def same(found: object, expected: object) -> None:
    """Equal but for the decimals of a place in the drawing."""
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-4)
