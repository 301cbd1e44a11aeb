"""Every moment at which a process that writes files may be killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from safetensors.torch import save
from torch import Tensor

from fewstep.train import checkpoint

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CALLS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link")
"""As Python's audit tells them, each before it is made."""


class Torn:
    """An open file of which nothing or a half may be written."""

    def __init__(self, file: IO[Any], boundary: Callable[[], None]) -> None:
        self.file, self.boundary = file, boundary

    def write(self, data: Any) -> int:
        self.boundary()
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.boundary()
        return half + self.file.write(data[half:])

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def kill_at(n: int) -> Callable[[], int]:
    """In this process, which must be a fork: SIGKILL at the n-th boundary from now on. A negative n
    only counts; the function that is returned tells how many there were.

    Boundaries lie before each creation, renaming, removal, fsync and write, and in the middle of
    each write. safetensors writes from Rust, where nothing can be put between: the very bytes are
    written from here.
    """
    met = 0

    def boundary() -> None:
        nonlocal met
        if met == n:
            os.kill(os.getpid(), signal.SIGKILL)
        met += 1

    def audit(event: str, details: tuple[Any, ...]) -> None:
        if event in CALLS or (event == "open" and (details[2] or 0) & WRITING):
            boundary()

    fsync, path_open = os.fsync, Path.open

    def counted_fsync(file: int) -> None:
        boundary()
        fsync(file)

    def torn_open(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        file = path_open(self, mode, *more, **options)
        return Torn(file, boundary) if set(mode) & set("wax") else file

    def torn_save(tensors: Mapping[str, Tensor], file: Path) -> None:
        with torn_open(file, "wb") as opened:
            opened.write(save(dict(tensors)))

    sys.addaudithook(audit)
    os.fsync = counted_fsync
    Path.open = torn_open
    checkpoint.save_file = torn_save
    return lambda: met
