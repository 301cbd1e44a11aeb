"""Several real processes, forked from the test's own so that libraries are loaded once."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

SECONDS = 240.0
"""After which processes that hang are killed and the test fails."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(count: int, work: Callable[[int], int]) -> list[int]:
    """Fork `count` processes with torchrun's variables; each ends as `work(rank)` says.

    What lies about is freed here: a process group that a child frees waits for threads that it does
    not have, for ever.
    """
    gc.collect()
    gc.freeze()
    port, pids = free_port(), list[int]()
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                }  # fmt: skip
                code = work(rank)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        pids.append(pid)
    gc.unfreeze()
    return pids


def finish(pids: list[int], seconds: float = SECONDS) -> list[int]:
    """Exit codes, minus the signal's number of a process that was killed. Hanging ones are killed,
    and count as TimeoutError."""
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(pids):
        for pid in set(pids) - codes.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            for pid in set(pids) - codes.keys():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise TimeoutError(f"processes hang; the others ended with {sorted(codes.values())}")
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def run(count: int, work: Callable[[int], int], seconds: float = SECONDS) -> list[int]:
    return finish(start(count, work), seconds)
