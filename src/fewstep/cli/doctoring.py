"""`fewstep doctor`: what is wrong with a pipeline, before anybody trains with it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from fewstep.cli.opening import read_config
from fewstep.doctor.base import Answer, Finding, doubtful, examine, good
from fewstep.doctor.checks import CHECKS
from fewstep.doctor.patient import Patient
from fewstep.doctor.run import differences
from fewstep.errors import UserError
from fewstep.evaluate.grids import write_grid
from fewstep.experiment.builder import build
from fewstep.experiment.codec import to_dict
from fewstep.experiment.config import Experiment
from fewstep.machine import environment
from fewstep.report.doctor import write_page
from fewstep.runs import check_new, user_path, write_atomic
from fewstep.train.progress import ProgressLines

RECORD, PAGE = "doctor.json", "doctor.html"
ILL = 1
"""Exit code where a check has failed."""


@dataclass(frozen=True, kw_only=True)
class DoctorRequest:
    """What `doctor` takes beside the fields of the experiment."""

    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    out: Path | None = None
    """Where doctor.json, doctor.html and pictures go; none is runs/doctor/NAME."""
    full: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also what takes minutes: pictures at several guidances, few steps against many, and whether
    a teacher can draw what it is shown."""
    against: Path | None = None
    """A benchmark, one prompt a line, that must not be trained on."""
    validated: Path | None = None
    """The config.yaml of a run that went well, to be told what is different."""


@dataclass(frozen=True, kw_only=True)
class DoctorHelp(DoctorRequest):
    """The same with every field of an experiment."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def doctor(
    request: DoctorRequest, experiment: Experiment, label: str, command: str, console: Console
) -> int:
    """Examine, print a line for each check, and write a record and a page; 1 if one has failed."""
    out = request.out or Path("runs/doctor") / label
    if (out / "config.yaml").exists():
        raise UserError(f"{out} is a run; choose another --out for what the doctor writes")
    if not (out / RECORD).exists():
        check_new(out)
    against = lines_of(request.against)
    validated = None if request.validated is None else read_config(request.validated)
    with ProgressLines(console) as told:
        built = build(experiment, out, told)
    patient = Patient(experiment, built, against=against)
    answers: list[Answer] = []
    grids: dict[str, Path] = {}
    for answer in examine(patient, CHECKS, quick=not request.full):
        answers.append(answer)
        console.print(answer.line())
        if (pictures := answer.finding.pictures) is not None:
            columns, rows = pictures
            name = answer.check.name.replace(" ", "_")
            grids[answer.check.name] = write_grid(out / f"{name}.png", columns, rows)
    told_apart = None if validated is None else compared(experiment, validated)
    if told_apart is not None:
        console.print(f"{told_apart.state.upper():4}  validated: {told_apart.evidence}")
    for note in built.notes:
        console.print(f"note: {note}")
    facts = record(command, answers, told_apart)
    write_atomic(out / RECORD, json.dumps(facts, indent=1, default=str).encode() + b"\n")
    page = write_page(facts, grids, out / PAGE)
    counts = Counter(answer.state for answer in answers)
    console.print(
        f"{counts['pass']} passed, {counts['warn']} warned, {counts['fail']} failed; wrote {page}"
    )
    return ILL if counts["fail"] else 0


def lines_of(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = user_path(str(path)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--against: {path} cannot be read: {error}") from None
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UserError(f"--against: {path} has no prompt")
    return found


def compared(experiment: Experiment, validated: Experiment) -> Finding:
    found = differences(to_dict(experiment), to_dict(validated))
    if not found:
        return good("every field that decides a result is that of the validated run")
    shown = "; ".join(f"{name} {old} -> {new}" for name, (old, new) in found.items())
    return doubtful(
        f"{len(found)} fields differ from the validated run: {shown}",
        "what was validated is not what will run", fields={k: list(v) for k, v in found.items()},
    )  # fmt: skip


def record(command: str, answers: list[Answer], told_apart: Finding | None) -> dict[str, Any]:
    """As JSON."""
    rows = [
        {
            "check": a.check.name, "asks": a.check.asks, "state": a.state,
            "evidence": a.finding.evidence, "fix": a.finding.fix, "seconds": round(a.seconds, 2),
            "facts": a.finding.facts,
        }
        for a in answers
    ]  # fmt: skip
    if told_apart is not None:
        rows.append({
            "check": "validated", "asks": "Is it what went well before?",
            "state": told_apart.state, "evidence": told_apart.evidence, "fix": told_apart.fix,
            "seconds": 0.0, "facts": told_apart.facts,
        })  # fmt: skip
    return {"command": command, "environment": environment(), "threads": torch.get_num_threads(),
            "checks": rows}  # fmt: skip
