"""What steps cost: wall and processor time without the pauses between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    wall: float
    cpu: float
    """Of all threads of this process."""

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


def now() -> Seconds:
    return Seconds(time.monotonic(), time.process_time())


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self.began = now()

    def lap(self) -> Seconds:
        """Time since the last lap, which ends here."""
        end = now()
        taken = end - self.began
        self.began = end
        return taken

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        start = now()
        try:
            yield
        finally:
            self.began = self.began + (now() - start)
