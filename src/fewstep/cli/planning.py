"""`fewstep plan`: what a run will take, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from fewstep.errors import UserError
from fewstep.experiment.builder import check_processes
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import choose_device, model_path
from fewstep.experiment.outline import outline, published
from fewstep.experiment.plan import Plan, lines, plan_of
from fewstep.experiment.rehearsal import META, Lengths, batch_of, count, rehearse
from fewstep.families.zimage import ZImage
from fewstep.train.live import nbytes

SMALL = 100_000_000
"""Parameters of a model that any GPU holds."""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What `plan` takes beside the fields of the experiment."""

    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    tokens: int = 128
    """Of a prompt."""
    context_tokens: int = 512
    """Of what a teacher sees instead, where the method has one."""
    processes: int = 1
    """Of torchrun, that share each step."""
    gigabytes: float | None = None
    """Of the GPU at hand: a plan that does not fit it ends with exit code 2."""

    def __post_init__(self) -> None:
        for name, value in (
            ("tokens", self.tokens), ("context-tokens", self.context_tokens),
            ("processes", self.processes),
        ):  # fmt: skip
            if value < 1:
                raise UserError(f"--{name} must be >= 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class PlanHelp(PlanRequest):
    """The same with every field of an experiment."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def plan(request: PlanRequest, experiment: Experiment, console: Console) -> int:
    """Print it; UserError where it cannot run, or not on the GPU at hand."""
    lengths = Lengths(cond=request.tokens, context=request.context_tokens)
    found = planned(experiment, lengths, request.processes)
    for line in (*as_plain(experiment), *lines(found), *among(experiment, request.processes)):
        console.print(line)
    if request.gigabytes is not None and not found.fits(request.gigabytes):
        raise UserError(
            f"this run needs a GPU of {found.needs:.1f} GB, and --gigabytes is "
            f"{request.gigabytes:g}: lower data.micro_batch, set recompute, optim.student.weights "
            "to exact, optim.student.moments to 8bit or an adapter, or divide it by sharding.mode"
        )
    return 0


def expected(experiment: Experiment) -> list[str]:
    """The plan of one process, for who looks before a run; why there is none where none can be. Of
    a small model it would be all that the look takes time for."""
    try:
        if count(outline_of(experiment.model, "model").backbone.parameters()) < SMALL:
            return ["`fewstep plan` with the same words says what it takes"]
        found = planned(experiment, Lengths())
        here = []
        if choose_device(experiment).type == "cuda":
            here = [found.beside(torch.cuda.get_device_properties(0).total_memory)]
        return [*as_plain(experiment), *lines(found), *here]
    except UserError as error:
        return [f"no plan: {error}"]


def as_plain(experiment: Experiment) -> list[str]:
    if experiment.engine == "plain":
        return []
    return [f"engine {experiment.engine} is counted as plain, which takes more memory"]


def among(experiment: Experiment, processes: int) -> list[str]:
    if processes == 1:
        return []
    return [f"all of this is of each of {processes} processes; the time in which they send each "
            "other gradients and weights is not counted"]  # fmt: skip


def planned(experiment: Experiment, lengths: Lengths, processes: int = 1) -> Plan:
    """UserError where the experiment cannot be built."""
    if experiment.sharding.on and processes == 1:
        raise UserError(
            f"sharding.mode is {experiment.sharding.mode}: say among how many it divides with "
            "`fewstep plan --processes N`"
        )
    check_processes(experiment, processes)
    experiment = replace(experiment, engine="plain")
    family = outline_of(experiment.model, "model")
    teacher = family
    if experiment.teacher is not None:
        teacher = outline_of(experiment.teacher, "teacher")
    wide = torch.finfo(getattr(torch, experiment.dtype)).bits // 8
    families = {id(f): f for f in (family, teacher)}.values()
    one = batch_of(experiment, teacher, lengths, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        teacher.backbone(one.x0, torch.zeros(1, device=META), one.cond)
    try:
        found = rehearse(experiment, family, teacher, lengths, processes)
    except ValueError as error:
        raise UserError(str(error)) from error
    sizes = {
        # latents and conditions are kept in float32 (`data.shards`)
        "latent": nbytes([one.x0]), "cond": nbytes(one.cond.tokens),
        "autoencoder": sum(count(f.pipeline.vae.parameters()) * wide for f in families),
        # one reads at a time
        "readers": max(count(f.pipeline.text_encoder.parameters()) * wide for f in families),
    }  # fmt: skip
    return plan_of(experiment, found, lengths, forward=counter.get_total_flops(), **sizes)


def outline_of(model: str, key: str) -> ZImage:
    path = Path(model_path(model))
    if path.exists():
        return outline(path)
    if (known := published(model)) is not None:
        return known
    raise UserError(
        f"{key} {model!r} is not on this machine, and its sizes are not known: give a directory, "
        "of which only the configs are read"
    )
