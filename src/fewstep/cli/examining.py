"""Asking all questions of the doctor: lines, a record and a page."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fewstep.doctor.base import Answer, Check, P, examine
from fewstep.doctor.checks import CHECKS
from fewstep.doctor.patient import Patient
from fewstep.evaluate.grids import write_grid
from fewstep.experiment.builder import Built
from fewstep.experiment.config import Experiment
from fewstep.machine import environment
from fewstep.report.doctor import write_page
from fewstep.runs import Run, write_atomic

RECORD, PAGE = "doctor.json", "doctor.html"
SWITCH = "FEWSTEP_DOCTOR"
"""An environment variable: "off" trains without looking first."""
ILL = 1
"""Exit code where a check has failed."""


def examined(
    patient: P, checks: Sequence[Check[P]], out: Path, command: str, console: Console, *,
    full: bool = True, more: Sequence[Answer] = (),
) -> int:  # fmt: skip
    """`more` are answers that somebody else has found."""
    answers: list[Answer] = []
    grids: dict[str, Path] = {}
    out.mkdir(parents=True, exist_ok=True)
    for answer in (*examine(patient, checks, quick=not full), *more):
        answers.append(answer)
        console.print(answer.line())
        if (pictures := answer.finding.pictures) is not None:
            columns, rows = pictures
            name = answer.check.name.replace(" ", "_")
            grids[answer.check.name] = write_grid(out / f"{name}.png", columns, rows)
    page = write_record(answers, grids, out, command)
    counts = Counter(answer.state for answer in answers)
    console.print(
        f"{counts['pass']} passed, {counts['warn']} warned, {counts['fail']} failed; wrote {page}"
    )
    return ILL if counts["fail"] else 0


def look_first(
    experiment: Experiment, built: Built, run: Run, command: str, console: Console
) -> None:
    """The quick part before the first step of a run, without what moves weights."""
    if os.environ.get(SWITCH) == "off" or any(run.checkpoints.glob("step_*")):
        return
    out = run.directory
    answers: list[Answer] = []
    for answer in examine(Patient(experiment, built, prompts=4), CHECKS, quick=True, moving=False):
        answers.append(answer)
        if answer.state in ("warn", "fail"):
            console.print(answer.line())
    if built.recomputed is not None:
        built.recomputed.again = 0  # the run counts its own
    write_record(answers, {}, out, command)
    passed = sum(answer.state == "pass" for answer in answers)
    took = sum(answer.seconds for answer in answers)
    console.print(f"doctor: {passed} checks passed in {took:.0f} s, see {out / PAGE}")
    if any(answer.state == "fail" for answer in answers):
        console.print("warning: a check has failed, and the run goes on: see what it says")


def write_record(
    answers: Sequence[Answer], grids: Mapping[str, Path], out: Path, command: str
) -> Path:
    """The record, and the page, whose path is returned."""
    facts = record(command, answers)
    write_atomic(out / RECORD, json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n")
    return write_page(facts, grids, out / PAGE)


def record(command: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """As JSON."""
    rows = [
        {
            "check": a.check.name, "asks": a.check.asks, "state": a.state,
            "evidence": a.finding.evidence, "fix": a.finding.fix, "seconds": round(a.seconds, 2),
            "facts": known(a.finding.facts),
        }
        for a in answers
    ]  # fmt: skip
    return {"command": command, "environment": environment(), "threads": torch.get_num_threads(),
            "checks": rows}  # fmt: skip


def known(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON has not."""
    if isinstance(value, dict):
        return {key: known(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
