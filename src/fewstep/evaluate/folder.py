"""The folder of an evaluation belongs to one command at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fewstep.errors import UserError
from fewstep.runs import Run

LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and hold it against other processes, by the lock that a run has.

    RunError where another process holds it, UserError where it cannot be made. A folder that was
    made here is taken away again if nothing was put into it.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    lock = Run(folder)  # neither created nor opened: the folder need not be a run
    try:
        yield
    finally:
        if new and [path.name for path in folder.iterdir()] == [LOCK]:
            with suppress(OSError):  # another may have put something beside it
                (folder / LOCK).unlink()
                for path in new:
                    path.rmdir()
        lock.close()
