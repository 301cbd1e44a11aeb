"""Leases: which worker has which piece of work, for workers that share nothing but a folder.

A lease is a file that is created exclusively and rewritten by its holder's heartbeat. Another
worker takes it over when the file has not changed for `patience` seconds of that worker's own
monotonic clock, so no clock of another machine is believed, and none that jumps; or at once when
the holder was a process of this machine and is gone.

A lease spares double work and promises nothing: a holder that was stopped for longer than its
lease may wake up and go on. What is made must be the same whoever makes it, and be published so
that the first one wins (`data.shards.publish`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewstep.disk import link

PATIENCE = 300.0
"""Seconds. File systems of clusters may show a change as late as a minute after it was made."""
BEATS = 5
"""Heartbeats in that time."""


@dataclass
class Leases:
    """Those of one worker on the pieces of work in `directory`."""

    directory: Path
    patience: float = PATIENCE
    seen: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """Of leases that others hold: what they said, and when they began to say so."""

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether the piece of this name is ours for the length of the block. OSError where the
        folder cannot be written."""
        path = self.directory / f"{name}.lease"
        self.directory.mkdir(parents=True, exist_ok=True)
        handle = create(path)
        if handle is None and self.abandoned(name, path):
            handle = create(path)
        if handle is None:
            yield False
            return
        self.seen.pop(name, None)
        ended = threading.Event()
        beats = threading.Thread(
            target=beat, args=(handle, ended, min(self.patience, PATIENCE) / BEATS), daemon=True
        )
        try:
            beats.start()
            yield True
        finally:
            ended.set()
            if is_ours(handle, path):
                with suppress(OSError):
                    path.unlink()
            if beats.ident is not None:
                beats.join()
            with suppress(OSError):  # over a network the file may be gone with its lease
                os.close(handle)

    def abandoned(self, name: str, path: Path) -> bool:
        """Whether the lease had no living holder, and we have removed it."""
        try:
            said = path.read_bytes()
        except OSError:
            return True  # it has just been given back
        before, since = self.seen.get(name, (b"", 0.0))
        if said != before or name not in self.seen:
            since = time.monotonic()
            self.seen[name] = said, since
        if not is_gone(said) and time.monotonic() - since < self.patience:
            return False
        # Renaming has one winner. It may meet a lease that is newer than what we have read.
        taken = path.with_name(f".{name}.{uuid.uuid4().hex}")
        try:
            path.rename(taken)
            newer = taken.read_bytes() != said
            if newer:
                link(taken, path)
        except OSError:
            newer = True
        with suppress(OSError):
            taken.unlink()
        return not newer


def create(path: Path) -> int | None:
    """The open file of a new lease; None where there is one. It appears with what it says, for an
    empty one would belong to nobody known."""
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.pwrite(handle, written(0), 0)
        if link(own, path):
            return handle
    except BaseException:
        os.close(handle)
        raise
    finally:
        with suppress(OSError):
            own.unlink(missing_ok=True)
    os.close(handle)
    return None


def written(beats: int) -> bytes:
    """Who holds the lease, and how often the heart has beaten: never shorter than before."""
    own = {"machine": machine(), "pid": os.getpid(), "began": began(os.getpid()), "beat": beats}
    return json.dumps(own).encode() + b"\n"


def beat(handle: int, ended: threading.Event, every: float) -> None:
    """Rewrite the lease until the block has ended. What goes wrong here ends the lease for others,
    and the worker meets the same disk when it publishes."""
    beats = 0
    while not ended.wait(every):
        beats += 1
        with suppress(OSError):
            os.pwrite(handle, written(beats), 0)
            os.fsync(handle)  # a network's client may keep it for itself


def is_ours(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def is_gone(said: bytes) -> bool:
    """Whether the holder is known to live no more: a process of this machine that is not there, or
    whose number is another one's by now."""
    try:
        holder: dict[str, Any] = json.loads(said)
        if holder["machine"] != machine():
            return False
        return began(int(holder["pid"])) != holder["began"]
    except (ValueError, KeyError, TypeError):
        return False


def machine() -> str:
    """Where process numbers mean the same: this boot of this machine, and this container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def began(pid: int) -> str:
    """When a process began, in the system's ticks; "" for one that is not there, "?" where the
    system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except OSError:
            pass
        return "?"
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
