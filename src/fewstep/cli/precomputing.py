"""`fewstep precompute`: teacher samples by any number of workers, and a look at what they made."""

from __future__ import annotations

import math
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

from fewstep.data.audit import stats, verify
from fewstep.data.cache import CACHE, check_key
from fewstep.data.estimate import estimate
from fewstep.data.leases import PATIENCE
from fewstep.data.precompute import precompute as draw_all
from fewstep.data.task import Task, missing_rows
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import choose_device, load_family, make_world
from fewstep.experiment.prompts import check_prompts
from fewstep.experiment.samples import check_samples, sample_task
from fewstep.train.progress import ProgressLines, duration
from fewstep.train.ranks import take_gpu


@dataclass(frozen=True, kw_only=True)
class PrecomputeRequest:
    """What `precompute` takes beside the fields of the experiment."""

    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Load the model, and say what would be drawn, how long it takes and how much room."""
    patience: float = PATIENCE
    """Seconds after which another worker that shows no life is taken for dead."""
    per_hour: float | None = None
    """What a worker costs an hour, to be told the sum."""

    def __post_init__(self) -> None:
        if not 0 < self.patience < math.inf:
            raise UserError(f"--patience must be a number of seconds > 0, got {self.patience}")


@dataclass(frozen=True, kw_only=True)
class PrecomputeHelp(PrecomputeRequest):
    """The same with every field of an experiment."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """Read every byte of a folder of teacher samples."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    quarantine: tyro.conf.FlagCreatePairsOff[bool] = False
    """Set damaged files aside: the command that made them then makes these anew, and no others."""


@dataclass(frozen=True, kw_only=True)
class StatsRequest:
    """What lies in a folder of teacher samples."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]


def precompute(experiment: Experiment, request: PrecomputeRequest, console: Console) -> int:
    """Draw the samples that `fewstep train` would draw first; the same command anywhere that sees
    the same folder takes part in the work."""
    if not experiment.data.reads("samples"):
        raise UserError(
            f"this experiment draws no teacher samples: data.source is {experiment.data.source} "
            f"and data.prior {experiment.data.prior}"
        )
    torch.set_num_threads(experiment.threads or torch.get_num_threads())
    device = choose_device(experiment)
    if device.type == "cuda":
        take_gpu()
    world = make_world(experiment)
    check_prompts(experiment, world)
    first = os.environ.get("RANK", "0") == "0"  # one progress line of torchrun's processes
    with ProgressLines(console if first else Console(quiet=True)) as told:
        for model in models_of(experiment):
            family = load_family(
                model, device, experiment.dtype, experiment.engine, experiment.frozen
            )
            check_samples(experiment, family, world)
            task = sample_task(experiment, family, world)
            if (task.directory / CACHE).exists():
                check_key(task.directory, task.key)
            if first and (missing := missing_rows(task)):
                for line in plan(replace(task, rows=missing), request.per_hour):
                    console.print(line)
            if request.dry_run:
                console.print(f"# would draw into {task.directory}")
                continue
            for text in draw_all(task, told, patience=request.patience).notes:
                console.print(f"warning: {text}")
            for line in stats(task.directory) if first else ():
                console.print(line)
            if first:
                console.print("every byte is read by\n  " + shlex.join(
                    ["fewstep", "precompute", "verify", str(task.directory)]
                ))  # fmt: skip
    return 0


def models_of(experiment: Experiment) -> list[str]:
    """Who draws: the teacher what is trained on, the model itself what it should stay at."""
    data = experiment.data
    found = [experiment.teacher or experiment.model] if data.source == "samples" else []
    if data.prior == "samples":
        found.append(experiment.model)
    models = list(dict.fromkeys(found))
    if len(models) > 1 and data.directory is not None:
        raise UserError(
            f"data.directory is one folder, but {models[0]} and {models[1]} both draw samples: set "
            "it to none, and data.cache to a folder that has room for both"
        )
    return models


def plan(task: Task, per_hour: float | None) -> list[str]:
    """What is to be drawn, how long one worker takes and what that costs."""
    cfg, rows, found = task.cfg, task.rows, estimate(task)
    passes = len(rows) * cfg.steps * (1 if cfg.guidance == 1 else 2)
    seconds = len(rows) * found.seconds
    money = "" if per_hour is None else f", {seconds / 3600 * per_hour:.2f} at {per_hour:g} an hour"
    return [
        f"{len(rows)} samples of {cfg.steps} steps, {passes} passes of the model, about "
        f"{len(rows) * found.bytes / 1e6:.1f} MB",
        f"about {duration(seconds)} for one worker of this machine, {1 / found.seconds:.3g} "
        f"samples a second{money}; more workers share it",
    ]


def verify_samples(request: VerifyRequest, console: Console) -> int:
    """Read every byte, and name what is damaged."""
    with ProgressLines(console) as told:
        found = verify(request.directory, told, quarantine=request.quarantine)
    for path, why in found.damaged.items():
        console.print(f"damaged: {path}: {why}")
    console.print(
        f"{found.finished} files are what was written, {found.missing} are not there, "
        f"{len(found.damaged)} are damaged; the index is "
        + ("whole" if found.index else "not there or not whole: it is made again with the rest")
    )
    if found.left and request.quarantine:
        raise UserError(
            f"{found.left[0]} is damaged and was not set aside, for another worker has its lease; "
            "wait until it has ended, or longer than its patience, and run the same command again"
        )
    if found.left:
        raise UserError(
            f"{len(found.left)} files in {request.directory} are damaged: add --quarantine to set "
            "them aside; the command that made them then makes them anew, and nothing else"
        )
    return 0


def tell_stats(request: StatsRequest, console: Console) -> int:
    for line in stats(request.directory):
        console.print(line)
    return 0
