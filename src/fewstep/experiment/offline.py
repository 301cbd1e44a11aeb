"""What a checkpoint holds of the model that is exported: on the CPU, in one process, however many
have written it. Optimizers and what else a run needs to go on are not read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch

from fewstep.errors import UserError
from fewstep.experiment.builder import make_method
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family
from fewstep.families.zimage import ZImage
from fewstep.methods.base import Method
from fewstep.train.checkpoint import load_modules


@dataclass(frozen=True, kw_only=True)
class Restored:
    """As much of a built experiment as an export needs."""

    family: ZImage
    teacher: ZImage
    method: Method


def restored(experiment: Experiment, checkpoint: Path) -> Restored:
    """Over whole weights, whatever training has packed. UserError where the experiment cannot be
    built any more, RunError where the checkpoint does not belong to it."""
    experiment = replace(experiment, frozen="dtype")
    cpu, dtype, engine = torch.device("cpu"), experiment.dtype, experiment.engine
    family = teacher = load_family(experiment.model, cpu, dtype, engine)
    if experiment.teacher is not None:
        teacher = load_family(experiment.teacher, cpu, dtype, engine)
    try:
        method = make_method(experiment, family, teacher, cpu)
    except ValueError as error:
        raise UserError(str(error)) from error
    load_modules(checkpoint, method.modules, read_by_export(method))
    return Restored(family=family, teacher=teacher, method=method)


def read_by_export(method: Method) -> list[str]:
    """The modules that hold a tensor of what is exported: the student, or its average alone."""
    exported = method.exported()
    wanted = {id(t) for t in chain(exported.parameters(), exported.buffers())}
    return [
        name
        for name, module in method.modules.items()
        if any(id(t) in wanted for t in chain(module.parameters(), module.buffers()))
    ]
