"""Before the first step several processes do different things: the first draws samples, the others
wait for them. A signal that reaches one of them, or a mistake that one finds, ends all.

Who waits cannot be heard through a collective operation that it is itself waiting in, so requests
lie in the store by which the processes have found each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

from fewstep.data.told import Told
from fewstep.runs import RunError
from fewstep.train.ranks import ALONE, Ranks, broke_off

ASKED, LEFT = "asked to stop", "has left"
NAP = 0.05
"""Seconds between two looks of a process that waits."""
GRACE = timedelta(minutes=10)
"""How long a process that leaves waits for the others, which may be loading a model."""


class Start:
    """What this process and the others hear of each other until the first step.

    ranks   the processes
    asked   whether this one was asked to stop, by a signal; None where it is alone
    """

    def __init__(self, ranks: Ranks = ALONE, asked: Callable[[], bool] | None = None) -> None:
        self.ranks, self.asked = ranks, asked
        self.over = False

    def end(self) -> None:
        """From now on the training loop decides together, between steps."""
        self.over = True

    def listening(self, told: Told) -> Told:
        """The same, which ends this process as soon as any is to end: KeyboardInterrupt where that
        was a signal, RunError where it was a mistake."""

        def tell(what: str, done: int, total: int) -> None:
            told(what, done, total)
            if self.asked is not None:
                self.leave_with_others()
                if self.asked() or self.store.check([ASKED]):
                    raise KeyboardInterrupt

        return tell

    def meet(self) -> None:
        """Wait until all are here; raises in all of them where one is to end."""
        if self.asked is None:
            return
        work = dist.barrier(async_op=True)
        assert work is not None
        while not work.is_completed():
            if self.asked():
                self.store.set(ASKED, "")
            self.leave_with_others()
            time.sleep(NAP)
        work.wait()
        if self.ranks.any(self.asked()):
            raise KeyboardInterrupt

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is raised here before the end of the start ends the other processes too, which are
        in such a block as well. RunError for the broken connection that one leaves later."""
        try:
            yield
        except BaseException as error:
            if not self.over:
                self.leave("signal" if isinstance(error, KeyboardInterrupt) else "mistake")
            elif broke_off(error):
                raise RunError("another process has ended, and says why") from error
            raise

    def leave(self, why: str) -> None:
        """Tell the others and let them leave too: one that is gone breaks the collective operation
        in which another waits, and the store goes with the first."""
        self.store.set(LEFT, why)
        self.store.set(f"{LEFT} {self.ranks.rank}", "")
        with suppress(RuntimeError):  # one that died, or the first, who has seen all leave
            self.store.wait([f"{LEFT} {rank}" for rank in range(self.ranks.count)], GRACE)

    def leave_with_others(self) -> None:
        """Whoever has left before a meeting never comes to it."""
        if self.store.check([LEFT]):
            if self.store.get(LEFT) == b"signal":
                raise KeyboardInterrupt
            raise RunError("another process has given up before the first step, and says why")

    @property
    def store(self) -> dist.Store:
        assert self.ranks.store is not None  # there are several processes
        return self.ranks.store
