"""The check of the teacher in context, as a verdict and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.report.numbers import MINUS
from fewstep.report.tables import Cell, cell
from fewstep.report.tuning import Drift, Teacher

ASKED = {
    "all": "All prompts", "captions": "Captions, beside their own picture",
    "novel": "Prompts beside another picture",
}  # fmt: skip
DRAWN = {"teacher": "In context", "plain": "Without"}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the page tells of the check."""

    passed: bool
    verdict: str
    gains: Sequence[tuple[str, Cell]]
    beside: Sequence[tuple[str, Cell]]
    drifts: Sequence[tuple[str, Sequence[Cell], bool]]
    """Name, cells and whether it is too far."""


def checked(teacher: Teacher) -> Checked:
    return Checked(
        passed=not teacher.faults,
        verdict=verdict_of(teacher),
        gains=[(ASKED.get(key, key), cell(own, False)) for key, own in teacher.gains.items()],
        beside=[(DRAWN.get(key, key), cell(own, True)) for key, own in teacher.beside.items()],
        drifts=[drifted(name, own) for name, own in teacher.drifts.items()],
    )


def verdict_of(teacher: Teacher) -> str:
    """In a few words; the faults stand beside it."""
    if not teacher.faults:
        return "The teacher passes"
    return "The teacher fails; the run was forced" if teacher.forced else "The teacher fails"


def drifted(name: str, drift: Drift) -> tuple[str, Sequence[Cell], bool]:
    means = [Cell(mean(value)) for value in (drift.teacher, drift.plain, drift.shown)]
    limit = Cell(f"{drift.limit:g}", f"check.{drift.option}")
    return name.replace("_", " "), [*means, cell(drift.beyond, False), limit], drift.too_far


def mean(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS) if math.isfinite(value) else "n/a"
