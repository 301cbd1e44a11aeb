"""What a check is, what it finds, and how all of them are made in their order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

import torch

from fewstep.doctor.patient import Model, Patient
from fewstep.evaluate.grids import Column

State = Literal["pass", "warn", "fail", "skip"]
WORSE: tuple[State, ...] = ("skip", "pass", "warn", "fail")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer of a check: the evidence in one sentence, and the way out where it is bad."""

    state: State
    evidence: str
    fix: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """Numbers behind the evidence, for JSON."""
    pictures: tuple[tuple[Column, ...], list[str]] | None = None
    """A grid: columns, and a prompt for each row."""


P = TypeVar("P")
"""What is looked at: a `Model`, or a whole `Patient`."""


def good(evidence: str, **facts: Any) -> Finding:
    return Finding(state="pass", evidence=evidence, facts=facts)


def bad(evidence: str, fix: str, **facts: Any) -> Finding:
    return Finding(state="fail", evidence=evidence, fix=fix, facts=facts)


def doubtful(evidence: str, fix: str, **facts: Any) -> Finding:
    return Finding(state="warn", evidence=evidence, fix=fix, facts=facts)


def not_here(why: str) -> Finding:
    """The question does not arise."""
    return Finding(state="skip", evidence=why)


@dataclass(frozen=True, kw_only=True)
class Check(Generic[P]):
    name: str
    asks: str
    """The question, as a heading of the page."""
    look: Callable[[P], Finding]
    needs: tuple[str, ...] = ()
    """Checks without which the answer means nothing."""
    slow: bool = False
    """Left out of the quick part."""
    moves: bool = False
    """Makes training steps, which change the patient."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    check: Check[Any]
    finding: Finding
    seconds: float

    @property
    def state(self) -> State:
        return self.finding.state

    def line(self) -> str:
        said = f"{self.state.upper():4}  {self.check.name}: {self.finding.evidence}"
        return f"{said}; {self.finding.fix}" if self.finding.fix else said


def of_model(check: Check[Model]) -> Check[Patient]:
    """The same question of each of a patient's models: the worst answer, or the first of equals."""

    def look(patient: Patient) -> Finding:
        found = {name: check.look(model) for name, model in patient.models.items()}
        name = max(found, key=lambda name: WORSE.index(found[name].state))
        of = f"of {name}: " if len(found) > 1 else ""
        return replace(found[name], evidence=f"{of}{found[name].evidence}")

    return replace(check, look=look)  # type: ignore[return-value]


def examine(
    patient: P, checks: Sequence[Check[P]], *, quick: bool = False, moving: bool = True
) -> Iterator[Answer]:
    """One answer after the other. A check that cannot be made has failed, and says why.

    quick   without the slow ones
    moving  with those that make training steps
    """
    failed: set[str] = set()
    for check in checks:
        if (quick and check.slow) or (check.moves and not moving):
            continue
        start = time.monotonic()
        if missing := [name for name in check.needs if name in failed]:
            failed.add(check.name)
            finding = not_here(f"stands on {' and '.join(missing)}")
        else:
            finding = looked(check, patient)
            if finding.state == "fail":
                failed.add(check.name)
        yield Answer(check=check, finding=finding, seconds=time.monotonic() - start)


def looked(check: Check[P], patient: P) -> Finding:
    try:
        found = check.look(patient)
    except torch.OutOfMemoryError:
        return doubtful(
            "could not be looked at: it takes more memory than there is",
            "look on a larger device, or at `fewstep plan`",
        )
    except Exception as error:  # whatever a check stumbles over is a finding, and no traceback
        said = " ".join(str(error).split()) or type(error).__name__
        return bad(f"could not be looked at: {said}", "repair that first")
    if found.state == "pass" and not finite(found.facts):
        return bad(f"{found.evidence}: not all of this is finite", "see where numbers overflow")
    return found


def finite(value: Any) -> bool:
    """Whether every number in it is."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)
