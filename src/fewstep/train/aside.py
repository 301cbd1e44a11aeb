"""Checkpoints that are set aside: they lie beside the newest ones and are never rotated away.

checkpoints/best              what a retention gauge keeps (`train.gauge`)
checkpoints/healthy_00000100  where a run may go back to (`train.watch`)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from fewstep.disk import sync
from fewstep.runs import RunError
from fewstep.train import checkpoint
from fewstep.train.commit import name_of
from fewstep.train.optim import Optim

BEST, HEALTHY = "best", "healthy_"


def healthy_name(step: int) -> str:
    return f"{HEALTHY}{step:08d}"


def set_aside(folder: Path, step: int, name: str) -> None:
    """Make the checkpoint of this step the one of that name, in place of the one before.

    Its files are linked where the file system can: nothing writes into a checkpoint. Raises
    RunError when that fails; whoever was stopped in between calls it again for the same step.
    """
    final, temporary, old = (folder / text for text in (name, f".{name}.tmp", f".{name}.old.tmp"))
    try:
        for left_over in (temporary, old):
            if left_over.exists():
                shutil.rmtree(left_over)
        shutil.copytree(folder / name_of(step), temporary, copy_function=linked)
        sync(temporary)
        if final.exists():
            final.rename(old)
        temporary.rename(final)
        sync(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, shutil.Error) as error:
        raise RunError(
            f"could not keep {folder / name_of(step)} as {final}: {error}; free some space and run "
            "the same command again"
        ) from error


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copy2(source, target)
        sync(Path(target))


def take(
    path: Path, step: int, modules: Mapping[str, nn.Module], optims: Mapping[str, Optim]
) -> None:
    """Load what was set aside of this step; RunError where that cannot be used, or is another."""
    if (why := checkpoint.flaw(path)) is not None:
        raise RunError(
            f"the checkpoint {path} cannot be used: {why}; start the run anew in another directory"
        )
    found = checkpoint.load(path, modules, optims).step
    if found != step:
        raise RunError(
            f"{path} is of step {found} and not of step {step}, which was replaced before it was "
            "needed; start the run anew in another directory"
        )


def go_back(
    path: Path, step: int, modules: Mapping[str, nn.Module], optims: Mapping[str, Optim]
) -> None:
    """Take weights, averages and moments, and leave the counts of updates as they are: records only
    grow, and a schedule ends where it should."""
    updates = {name: optim.updates for name, optim in optims.items()}
    take(path, step, modules, optims)
    for name, optim in optims.items():
        optim.updates = updates[name]


def set_rates(optims: Mapping[str, Optim], rates: Mapping[str, float], factor: float) -> None:
    """Learning rates are this factor of `rates`."""
    for name, optim in optims.items():
        optim.cfg = replace(optim.cfg, lr=factor * rates[name])
