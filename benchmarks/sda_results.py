"""What was found of one set of pictures between student and teacher, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from benchmarks import common

from fewstep.evaluate.diversity import recovered
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.metrics import estimates, minus
from fewstep.evaluate.statistics import Draws, Estimate, divide, estimate
from fewstep.evaluate.story import SPREADS

RELATIVE = ("sharpness", "high_frequency", "saturation")
"""Told as a share of the student's, minus 1."""

Kind = Literal["metrics", "shares", "changes", "relative"]
Estimates = Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Each metric with its interval over prompts; all but the first are paired with the student."""

    metrics: Estimates
    shares: Estimates
    """Of the gap from the student to the teacher at full steps: layouts, distances of features,
    Vendi scores."""
    changes: Estimates
    """Minus the student's."""
    relative: Estimates
    """Over the student's, minus 1."""

    def of(self, kind: Kind) -> Estimates:
        return getattr(self, kind)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One training run or one drawing, judged."""

    name: str
    seed: int | None
    minutes: float
    """Wall time of the training steps; 0 where nothing was trained."""
    calls: int
    """Model calls a picture."""
    found: Found | None = None
    failed: str | None = None
    """Why there was nothing to judge."""


def found_of(
    own: Measures, of_own: Mapping[str, Draws], student: Measures,
    of_student: Mapping[str, Draws], of_full: Mapping[str, Draws],
) -> Found:  # fmt: skip
    """All draws under the same weights. A metric that the student lacks is left out of what is
    paired with it."""
    size = len(own.prompts), own.n_seeds
    return Found(
        metrics=estimates(own, of_own),
        shares={
            key: estimate(recovered(of_student[key], of_own[key], of_full[key]), *size)
            for key in SPREADS
        },
        changes={
            key: minus(key, own, student, of_own[key], of_student[key])
            for key in of_own
            if key in of_student
        },
        relative={
            key: estimate(divide(of_own[key], of_student[key]) - 1, *size) for key in RELATIVE
        },
    )


def write_result(path: Path, facts: Mapping[str, Any], result: Result) -> None:
    """The result with the facts of its judge; whole or not at all."""
    common.write_json(path, {**facts, **as_json(result)})


def as_json(result: Result) -> dict[str, Any]:
    found = None
    if result.found is not None:
        found = {
            f.name: {key: e.to_json() for key, e in getattr(result.found, f.name).items()}
            for f in fields(Found)
        }
    return {
        "name": result.name, "seed": result.seed, "minutes": result.minutes,
        "calls": result.calls, "found": found, "failed": result.failed,
    }  # fmt: skip


def read_result(path: Path) -> Result:
    record = json.loads(path.read_bytes())
    found = None
    if record["found"] is not None:
        found = Found(**{
            kind: {key: Estimate.from_json(e) for key, e in own.items()}
            for kind, own in record["found"].items()
        })  # fmt: skip
    return Result(
        name=record["name"], seed=record["seed"], minutes=record["minutes"],
        calls=record["calls"], found=found, failed=record["failed"],
    )  # fmt: skip
