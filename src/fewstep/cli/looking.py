"""Verbs that look at what there is, once their options are read; each returns an exit code."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from rich.console import Console

from fewstep.cli.evaluation import evaluate_run
from fewstep.cli.figures import show
from fewstep.cli.sampling import telling
from fewstep.cli.suite import evaluate_models as judge_models
from fewstep.cli.verbs import EvalRequest, ReportRequest
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import choose_device
from fewstep.runs import Run


def evaluate(directory: Path, experiment: Experiment, command: str, console: Console) -> int:
    """Measure teacher and student of a finished run against the world's truth."""
    student = directory / "model"
    if not student.is_dir():
        raise UserError(
            f"{directory} has no model yet: let `fewstep train` finish, then evaluate again"
        )
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
    device = choose_device(experiment)
    with Run.open(directory), telling("pictures", console) as told:
        path = evaluate_run(experiment, directory, student, device, command, told)
    return shown(path.parent, console)


def evaluate_models(request: EvalRequest, command: str, console: Console) -> int:
    """Measure models by a suite."""
    with telling("pictures", console) as told:
        path = judge_models(request, command, told)
    return shown(path.parent, console)


def shown(directory: Path, console: Console) -> int:
    """The figures of an evaluation, and the command that makes its page."""
    show(directory, console)
    console.print("the page of it is made by\n  " + shlex.join(
        ["fewstep", "report", str(directory)]
    ))  # fmt: skip
    return 0


def report(request: ReportRequest, console: Console) -> int:
    """One page for runs and evaluations."""
    from fewstep.report.page import write_report  # matplotlib takes a second to import

    if not request.runs:
        raise UserError("report takes at least one directory: fewstep report runs/NAME")
    out = request.out
    if out is None:
        [*_, last] = request.runs
        out = last / "report.html" if len(request.runs) == 1 else Path("comparison.html")
    console.print(f"wrote {write_report(*request.runs, path=out)}")
    return 0
