"""Metrics shown elsewhere while a run trains: trackio, wandb or TensorBoard.

The record of a run is its metrics.jsonl. A viewer is fed what has been written there, by a thread
of its own from a queue of bounded length: one that is missing, fails or hangs can neither stop the
training nor slow it down. Rows that it does not take are counted, and are not lost.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, assert_never

from rich.console import Console

from fewstep.runs import Run

ViewerName = Literal["trackio", "wandb", "tensorboard"]

WAITING = 1000
"""Rows that may wait for the viewer; further ones are dropped."""
PATIENCE = 10.0
"""Seconds that a viewer has at the end of a run to take what still waits."""


class Viewer(Protocol):
    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None:
        """Show what was logged, and end."""
        ...


class Trackio:
    def __init__(self, directory: Path) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        self.trackio = trackio
        trackio.init(project="fewstep", name=directory.name, resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.trackio.log(dict(values), step=step)

    def close(self) -> None:
        self.trackio.finish()


class Wandb:
    def __init__(self, directory: Path) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self.run = wandb.init(project="fewstep", name=directory.name, dir=str(directory))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class TensorBoard:
    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(directory / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def open_viewer(name: ViewerName, directory: Path) -> Viewer:
    """ImportError where its library is not there."""
    match name:
        case "trackio":
            return Trackio(directory)
        case "wandb":
            return Wandb(directory)
        case "tensorboard":
            return TensorBoard(directory)
        case _:
            assert_never(name)


class Feed:
    """Rows on their way to a viewer, which `make` opens in a thread of its own;
    `warn` hears once of the first trouble, in a clause."""

    def __init__(self, make: Callable[[], Viewer], warn: Callable[[str], None]) -> None:
        self.warn, self.make = warn, make
        self.rows: queue.Queue[Mapping[str, Any]] = queue.Queue(WAITING)
        self.ending = threading.Event()
        self.warned = threading.Lock()
        self.taken = self.given = 0
        self.thread = threading.Thread(target=self.work, name="viewer", daemon=True)
        self.thread.start()

    @property
    def dropped(self) -> int:
        """Rows that the viewer has not taken."""
        return self.given - self.taken

    def put(self, row: Mapping[str, Any]) -> None:
        """Never waits and never raises."""
        self.given += 1
        try:
            self.rows.put_nowait(row)
        except queue.Full:
            self.trouble(f"takes no rows: {self.rows.maxsize} wait for it")

    def work(self) -> None:
        try:
            viewer = self.make()
            while not (self.ending.is_set() and self.rows.empty()):
                try:
                    row = self.rows.get(timeout=0.1)
                except queue.Empty:
                    continue
                viewer.log(int(row["step"]), numbers(row))
                self.taken += 1
            viewer.close()
        except BaseException as error:  # a library may even try to exit
            self.trouble(f"has failed ({type(error).__name__}: {error})")

    def trouble(self, what: str) -> None:
        if self.warned.acquire(blocking=False):  # once, whichever thread has met it
            self.warn(f"the viewer {what}; training goes on, and metrics.jsonl has every row")

    def close(self, patience: float) -> None:
        """Give the viewer so many seconds to take what waits."""
        self.ending.set()
        self.thread.join(patience)
        if self.thread.is_alive():
            self.trouble(f"does not end within {patience:g} s")


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row can be drawn: finite numbers under "phase/name", parts of vectors by index."""
    found: dict[str, float] = {}
    for name, value in row.items():
        parts = {name: value}
        if isinstance(value, list | tuple):
            parts = {f"{name}/{i}": part for i, part in enumerate(value)}
        for key, part in parts.items():
            plain = isinstance(part, int | float) and not isinstance(part, bool)
            if plain and key not in ("step", "time") and math.isfinite(part):
                found[f"{row.get('phase', 'run')}/{key}"] = float(part)
    return found


@contextmanager
def watching(run: Run, name: ViewerName | None, console: Console) -> Iterator[None]:
    """Feed what the run logs in this block to the viewer of this name; None is none."""
    if name is None:
        yield
        return
    feed = Feed(
        partial(open_viewer, name, run.directory),
        lambda text: console.print(f"warning: {name}: {text}"),
    )
    run.watchers.append(feed.put)
    try:
        yield
    finally:
        run.watchers.remove(feed.put)
        feed.close(PATIENCE)
        if feed.dropped:
            console.print(
                f"{name} has not taken {feed.dropped} of {feed.given} rows; all are in "
                f"{run.metrics_path}"
            )
