"""Reads what a watch over a run has left.

health.jsonl             looks: a number of each sign
health.json              bands and alarms, and what followed
evidence/step_*/*.png    pictures of an alarm's step, and the same before training
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.report.results import Picture
from fewstep.report.typed import Node, WrongShape, read_json, read_rows
from fewstep.runs import RunError

EVIDENCE = {"before.png": "before training", "pictures.png": "at the alarm"}


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One number of every look, and where it is healthy."""

    name: str
    words: str
    low: float
    high: float
    looks: Sequence[tuple[int, float]]
    """Step and value."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    step: int
    name: str
    sign: str
    value: float
    healthy: str
    followed: str


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Of one run."""

    signs: Sequence[Sign]
    alarms: Sequence[Alarm]
    stop: str
    """Why the run ended early; empty where it did not."""
    evidence: Sequence[tuple[int, Sequence[Picture]]]
    """By the step of an alarm."""

    @property
    def verdict(self) -> str:
        n = len(self.alarms)
        return "No alarm" if n == 0 else f"{n} alarm{'s' if n > 1 else ''}"


def read_watched(directory: Path) -> Watched | None:
    """What lies in a run directory; None where nothing watched it. RunError names a file that
    cannot be understood."""
    path = directory / "health.json"
    if not path.is_file():
        return None
    try:
        return watched_of(Node(read_json(path)), read_rows(directory / "health.jsonl"), directory)
    except WrongShape as error:
        raise RunError(
            f"{path} cannot be understood: {error}; bring it back, or take it out of the run to "
            "leave it out of the page"
        ) from error


def watched_of(root: Node, rows: Sequence[Node], directory: Path) -> Watched:
    words = {name: node.at("words").text() for name, node in root.at("bands").items()}
    signs = [
        Sign(
            name=name, words=words[name], low=end(node.maybe("low"), -math.inf),
            high=end(node.maybe("high"), math.inf), looks=looks(name, rows),
        )
        for name, node in root.at("bands").items()
    ]  # fmt: skip
    alarms = [alarm_of(node, words) for node in root.at("alarms").entries()]
    stop = root.maybe("stop")
    return Watched(
        signs=signs, alarms=alarms, stop=stop.text() if stop else "",
        evidence=[
            (step, own) for step in sorted({a.step for a in alarms})
            if (own := pictures(directory, step))
        ],
    )  # fmt: skip


def end(node: Node | None, otherwise: float) -> float:
    return otherwise if node is None else node.number()


def looks(name: str, rows: Sequence[Node]) -> list[tuple[int, float]]:
    """Those that have this sign."""
    found: list[tuple[int, float]] = []
    for row in rows:
        values = dict(row.at("values").items())
        if name in values:
            found.append((row.at("step").count(), values[name].number_or_nan()))
    return found


def alarm_of(node: Node, words: Mapping[str, str]) -> Alarm:
    back, sign = node.maybe("back_to"), node.at("sign").text()
    action = node.at("action").text()
    followed = {"log": "", "evidence": "", "slow": "lower learning rates", "stop": "the end"}
    return Alarm(
        step=node.at("step").count(), name=node.at("name").text().replace("_", " "),
        sign=words.get(sign, sign), value=node.at("value").number_or_nan(),
        healthy=band_text(end(node.maybe("low"), -math.inf), end(node.maybe("high"), math.inf)),
        followed=f"back to step {back.count()}" if back else followed.get(action, action),
    )  # fmt: skip


def pictures(directory: Path, step: int) -> list[Picture]:
    folder = directory / "evidence" / f"step_{step:08d}"
    return [
        Picture(path=folder / name, caption=caption)
        for name, caption in EVIDENCE.items() if (folder / name).is_file()
    ]  # fmt: skip


def band_text(low: float, high: float) -> str:
    if math.isinf(low):
        return f"up to {high:.3g}"
    return f"from {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"
