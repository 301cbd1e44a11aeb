"""A run is a directory, and its record is an append-only JSONL file. Nothing here needs torch.

config.yaml    the resolved configuration: one file is the whole experiment
env.json       what it ran on: versions, processor, commit
metrics.jsonl  one row for each `log`, complete lines only
samples/  checkpoints/  report.html
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fewstep import jsonl
from fewstep.disk import sync
from fewstep.errors import UserError
from fewstep.machine import environment

WRITTEN = ("metrics.jsonl", "model", "evaluation.json", "report.html")
"""What a run that has begun leaves in its directory, besides its samples and checkpoints."""


class RunError(UserError, OSError):
    """A run directory cannot be used or written; the message says why and what to do."""


def user_path(text: str) -> Path:
    """A path as a user writes it; UserError for the home of somebody who has none."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"the path {text!r} cannot be resolved: {error}") from None


def check_new(directory: Path) -> None:
    """RunError where a new run would take over what another one (or something else) has written."""
    there = [name for name in WRITTEN if (directory / name).exists()]
    for name in ("samples", "checkpoints"):
        folder = directory / name
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            there.append(name)
    if there:
        raise RunError(
            f"{directory} has no config.yaml, so no run can be resumed there, but it holds "
            f"{', '.join(there)}; choose another directory, or move that away"
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it becomes `path` if the block succeeds.

    The old file is left untouched until the new one is complete and on the disk. Whatever goes
    wrong, the temporary file is removed; an OSError (a full disk) is raised as a RunError.
    """
    # another machine may have a process of the same number
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)  # the new name itself is safe only then
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(
            f"could not write {path}: {error.strerror or error}; the old file was left as it was, "
            "free some space or choose another folder"
        ) from error
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; raises RunError when the disk is full."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Every complete row of a run, oldest first; needs no lock.

    A half-written last line (the process was killed while it wrote) is left out; any other broken
    line is a RunError.
    """
    path = directory / "metrics.jsonl"
    return [_row(line, f"{path} line {i}") for i, line in enumerate(jsonl.lines(path), 1)]


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        return jsonl.decode(line)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where} is not a row of metrics: {line[:60]!r}; remove it") from error


class Follower:
    """A run that another process writes: where its files are. What is logged here goes nowhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    def log(self, step: int, **scalars: jsonl.Value) -> None:
        """Nothing."""

    def rewind(self, step: int) -> None:
        """Nothing."""

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""


class Run:
    """An open run directory, locked: a second process that opens it is refused.

    The lock belongs to the process and vanishes with it, so a killed run can be opened at once.
    """

    def __init__(self, directory: Path) -> None:
        """Use `Run.create` or `Run.open`."""
        self.directory = directory
        self.watchers: list[Callable[[Mapping[str, Any]], None]] = []
        """Each is told every row that was written."""
        self._metrics: int | None = None
        try:
            self._lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"cannot write in {directory}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 32).decode(errors="replace").strip()
            os.close(self._lock)
            raise RunError(
                f"the run {directory} is in use by process {holder or 'unknown'}; "
                "wait for it to end or choose another directory"
            ) from error
        with suppress(OSError):  # a name for the one who waits; a full disk is met later
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    @classmethod
    def create(cls, directory: Path, config: str, facts: Mapping[str, Any] | None = None) -> Run:
        """Start a run where none is: `config` is YAML, `facts` go to env.json."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the directory {directory}: {error.strerror}") from error
        run = cls(directory)
        try:
            if run.config_path.exists():
                raise RunError(
                    f"{directory} already holds a run; open it to resume, "
                    "or choose another directory"
                )
            check_new(directory)
            for folder in (run.samples, run.checkpoints):
                folder.mkdir(exist_ok=True)
            env = json.dumps(environment() | dict(facts or {}), indent=2, allow_nan=False)
            write_atomic(directory / "env.json", env.encode() + b"\n")
            # Last: a directory with a config is a run that was started completely.
            write_atomic(run.config_path, config.encode())
        except BaseException as error:
            run.close()
            if isinstance(error, OSError) and not isinstance(error, RunError):
                raise RunError(f"cannot start a run in {directory}: {error.strerror}") from error
            raise
        return run

    @classmethod
    def open(cls, directory: Path) -> Run:
        """Open an existing run to go on with it."""
        if not (directory / "config.yaml").is_file():
            raise RunError(f"{directory} holds no run: there is no config.yaml in it")
        run = cls(directory)
        try:
            jsonl.repair(run.metrics_path)
        except BaseException:
            run.close()
            raise
        return run

    @property
    def config_path(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        return self.directory / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        return self.directory / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    def log(self, step: int, **scalars: jsonl.Value) -> None:
        """Append one row with its step and wall time; on return the row is with the system.

        On a full disk the incomplete row is taken back and a RunError is raised.
        """
        self._check_open()
        if taken := {"time"} & scalars.keys():
            raise ValueError(f"the name {taken.pop()!r} is written by log itself; rename the value")
        row = {"step": step, "time": round(time.time(), 3), **scalars}
        line = jsonl.encode(row)
        if self._metrics is None:
            self._metrics = jsonl.open_to_append(self.metrics_path)
        try:
            jsonl.append(self._metrics, line)
        except OSError as error:
            raise RunError(
                f"could not log to {self.metrics_path}: {error.strerror or error}; "
                "the rows before are kept, free some space and run the same command again"
            ) from error
        for watcher in self.watchers:
            watcher(row)

    def metrics(self) -> list[dict[str, Any]]:
        """Every row, oldest first."""
        return read_metrics(self.directory)

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`, which a run that resumes from its checkpoint repeats."""
        self._check_open()
        if not self.metrics_path.exists():
            return
        lines = self.metrics_path.read_bytes().splitlines(keepends=True)
        where = str(self.metrics_path)
        kept = [line for line in lines if _row(line, where)["step"] <= step]
        if len(kept) < len(lines):
            write_atomic(self.metrics_path, b"".join(kept))
            self._close_metrics()

    def close(self) -> None:
        """Give the lock back. Closing twice is harmless."""
        self._close_metrics()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._lock < 0:
            raise RunError(f"the run {self.directory} was closed; open it again to write")

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            os.close(self._metrics)
            self._metrics = None
