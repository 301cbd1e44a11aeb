"""What is written, and what is on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links answer."""


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(written: Path, path: Path) -> bool:
    """Give a file that is written a second name, unless that is taken; of several processes one has
    it. FileNotFoundError where the first name is gone.

    Without hard links the file is renamed, and of two at the very same time the last one has it.
    """
    try:
        os.link(written, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            return False
        written.replace(path)
    return True
