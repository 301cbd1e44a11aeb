"""One live line with the time left; plain lines now and then where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET = 10.0
"""Seconds between two plain lines."""


class ProgressLine:
    """Shows how far a job is, its speed, the time left and a few numbers."""

    def __init__(self, what: str, done: int, total: int, console: Console) -> None:
        self.what, self.total, self.console = what, total, console
        self.first = self.last = done
        self.note = ""
        self.began = self.printed = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"),
            console=console, transient=False,
        )  # fmt: skip
        self.task = self.bar.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> ProgressLine:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.console.is_terminal:
            self.bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """`note` replaces the numbers at the end of the line, unless it is empty."""
        self.last = done
        if self.console.is_terminal:
            self.note = note or self.note
            self.bar.update(self.task, completed=done, note=self.note)
        elif done >= self.total or time.monotonic() - self.printed >= QUIET:
            self.printed = time.monotonic()
            parts = [f"{self.what} {done}/{self.total}", f"{duration(self.left())} left", note]
            self.say(", ".join(part for part in parts if part))

    def say(self, message: str) -> None:
        """A line of its own, above the live one."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def left(self) -> float:
        """Seconds until the end at the speed so far."""
        pace = (time.monotonic() - self.began) / max(1, self.last - self.first)
        return pace * (self.total - self.last)


class ProgressLines:
    """A line for each job that says (what, done, total), one after the other."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.line: ProgressLine | None = None

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self.tell

    def tell(self, what: str, done: int, total: int) -> None:
        if self.line is None or self.line.what != what:
            self.__exit__()
            self.line = ProgressLine(what, done, total, self.console).__enter__()
        self.line.update(done)

    def __exit__(self, *_: object) -> None:
        if self.line is not None:
            self.line.__exit__(None, None, None)
            self.line = None


def duration(seconds: float) -> str:
    """3725 -> "1 h 02 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
