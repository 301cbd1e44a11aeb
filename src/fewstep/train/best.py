"""The best checkpoint of a run, which lies beside the newest ones and is never rotated away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fewstep.disk import sync
from fewstep.runs import RunError
from fewstep.train.commit import name_of

BEST = "best"


def keep_best(folder: Path, step: int) -> None:
    """Make the checkpoint of this step the best, in place of the one before.

    Its files are linked where the file system can: nothing writes into a checkpoint. Raises
    RunError when that fails; whoever was stopped in between calls it again for the same step.
    """
    final, temporary, old = folder / BEST, folder / ".best.tmp", folder / ".best.old.tmp"
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
