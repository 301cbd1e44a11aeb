"""Workers of `fewstep precompute` that come, go and die, beside one that is left alone."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewstep.cli import main
from fewstep.data.audit import verify
from fewstep.data.shards import shard_path

AT_ONCE = 3
"""Workers at most."""
PAUSES = (2.0, 45.0)
"""Seconds between two events: a worker starts, or one is killed."""
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped bit": lambda data: data[:-500] + bytes([data[-500] ^ 1]) + data[-499:],
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "all zeros": lambda data: bytes(len(data)),
}


def words(samples: int, steps: int, directory: Path) -> list[str]:
    """The command, of samples without pictures in context, which a list of prompts has none of."""
    values = {
        "data.samples.prompts": samples, "data.samples.steps": steps, "data.samples.shard": 50,
        "data.samples.picture-share": 0, "data.directory": directory, "threads": 1,
    }  # fmt: skip
    return ["precompute", "ladd_shapes", *(f"--{key}={value}" for key, value in values.items())]


def start(command: Sequence[str], log: Path) -> int:
    """Fork a worker; what it says goes into the log."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, sys.stdout.fileno())
        os.dup2(handle, sys.stderr.fileno())
        code = main(command)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def alone(command: Sequence[str], log: Path) -> dict[str, float]:
    """One worker to its end: what it took."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    _, status = os.waitpid(start(command, log), 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed; see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": time.monotonic() - begun, "cpu_seconds": used}


@dataclass
class Crowd:
    """Workers that start and die by dice until everything is there."""

    command: Sequence[str]
    log: Path
    dice: random.Random
    pids: list[int] = field(default_factory=list)
    events: dict[str, int] = field(
        default_factory=lambda: {"started": 0, "killed": 0, "asked to stop": 0, "ended": 0}
    )

    def run(self) -> dict[str, int]:
        while self.events["ended"] == 0:
            if len(self.pids) < AT_ONCE and (not self.pids or self.dice.random() < 0.5):
                self.pids.append(start(self.command, self.log))
                self.events["started"] += 1
            elif len(self.pids) > 1 or self.dice.random() < 0.3:
                self.kill(self.dice.choice(self.pids))
            self.wait(self.dice.uniform(*PAUSES))
        while self.pids:
            self.wait(0.2)
        return self.events

    def kill(self, pid: int) -> None:
        hard = self.dice.random() < 0.7
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if hard else signal.SIGTERM)
            self.events["killed" if hard else "asked to stop"] += 1

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for pid in list(self.pids):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self.pids.remove(pid)
                    code = os.waitstatus_to_exitcode(status)
                    if code == 0:
                        self.events["ended"] += 1
                    elif code not in (-signal.SIGKILL, -signal.SIGTERM, 130):
                        raise RuntimeError(f"a worker ended with {code}; see {self.log}")
            time.sleep(0.05)


def difference(one: Path, two: Path) -> list[str]:
    """Files of two folders of samples that are not the same; leases and quarantine apart."""
    names = {p.name for d in (one, two) for p in d.iterdir() if p.is_file()}
    return sorted(
        name for name in names
        if not (one / name).exists() or not (two / name).exists()
        or (one / name).read_bytes() != (two / name).read_bytes()
    )  # fmt: skip


def damaged(directory: Path, command: Sequence[str], log: Path) -> dict[str, Any]:
    """Damage a shard in each way: which of them `verify` names, and which are made anew."""
    whole = {p: p.read_bytes() for p in directory.glob("shard_*")}
    apart = len(whole) // 2 // len(DAMAGE)  # two files are a shard
    paths = {kind: shard_path(directory, apart * i) for i, kind in enumerate(DAMAGE)}
    for kind, path in paths.items():
        path.write_bytes(DAMAGE[kind](whole[path]))
    before = {p: p.stat().st_ino for p in whole}
    named = verify(directory).damaged
    alone(command, log)
    anew = {p for p in whole if p.stat().st_ino != before[p]}
    return {
        "named": sum(path in named for path in paths.values()), "named_wrongly":
            len(named.keys() - set(paths.values())), "planted": len(paths),
        "made_anew": sorted(p.stem for p in anew if p.suffix == ".safetensors"),
        "only_these": {p.stem for p in anew} == {p.stem for p in paths.values()},
        "as_before": all(p.read_bytes() == data for p, data in whole.items()),
    }  # fmt: skip
