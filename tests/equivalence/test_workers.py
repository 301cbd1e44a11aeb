"""Workers that join, leave and are killed make what one quiet worker makes, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import forks
from tests.unit.test_precompute import CFG, ToyFamily, made

from fewstep.data import precompute
from fewstep.data.audit import verify
from fewstep.data.leases import machine
from fewstep.data.publish import clear, publish
from fewstep.data.shards import Row
from fewstep.data.teacher import TeacherSamples
from fewstep.data.told import quiet
from fewstep.families.base import Family

MANY = replace(CFG, prompts=240, shard=4, batch=2, steps=8)
PROMPTS = [f"thing {i % 200} of {i % 7}" for i in range(240)]


def files(directory: Path) -> dict[str, bytes]:
    """What there is, leases and quarantine apart."""
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


def counted(log: Path, slow: float = 0.0) -> Callable[..., object]:
    """`draw`, which writes a line for each unit that is begun."""
    real = precompute.draw

    def draw(cfg: TeacherSamples, family: Family, rows: Sequence[Row], *more: Any) -> object:
        with log.open("a") as file:
            file.write(f"{rows[0].id}\n")
        time.sleep(slow)
        return real(cfg, family, rows, *more)

    return draw


@pytest.mark.slow
@pytest.mark.fault(7, 18)
def test_workers_that_come_and_go(tmp_path: Path) -> None:
    quiet_one = made(MANY, ToyFamily(), PROMPTS, tmp_path / "quiet").directory
    dice = random.Random(0)

    def work(rank: int) -> int:
        precompute.draw = counted(tmp_path / "drawn")
        made(MANY, ToyFamily(), PROMPTS, tmp_path / "busy", told=quiet)
        return 0

    killed, workers = 0, list[int]()
    for _ in range(40):
        workers += forks.start(dice.randint(1, 2), work)
        time.sleep(dice.uniform(0.02, 0.25))
        gone = dice.sample(workers, dice.randint(0, len(workers)))
        for pid in gone:
            os.kill(pid, dice.choice([signal.SIGKILL, signal.SIGTERM]))
        codes = forks.finish(gone)
        killed += sum(code < 0 for code in codes)
        workers = [pid for pid in workers if pid not in gone]
        done = len(list((tmp_path / "busy").glob("*/shard_*.json")))
        if done == 60:
            break
    assert forks.finish([*workers, *forks.start(1, work)])[-1] == 0
    [busy] = (tmp_path / "busy").iterdir()
    assert killed >= 3
    drawn = (tmp_path / "drawn").read_text().split()
    assert len(set(drawn)) == 60 and len(drawn) - 60 <= killed  # nothing twice but what was lost
    assert files(busy) == files(quiet_one)
    found = verify(busy)
    assert (found.finished, found.missing, found.damaged, found.index) == (60, 0, {}, True)


@pytest.mark.slow
def test_workers_wait_for_each_other_and_adopt_the_first_ones_batch(tmp_path: Path) -> None:
    def work(rank: int) -> int:
        family = ToyFamily()
        found = made(replace(MANY, batch=2 + rank), family, PROMPTS, tmp_path / "three")
        share = len([text for text in family.encoded if text]) / len(PROMPTS)
        return 0 if len(found) == 240 and 0 < share < 1 else 1

    assert forks.run(3, work) == [0] * 3
    [three] = (tmp_path / "three").iterdir()
    alone = made(MANY, ToyFamily(), PROMPTS, tmp_path / "alone").directory
    one, other = files(alone), files(three)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= {"cache.json"}


@pytest.mark.slow
@pytest.mark.fault(18)
def test_who_slept_through_its_lease_comes_second(tmp_path: Path) -> None:
    """A worker that is stopped in the middle of a shard, taken for dead, and woken up again."""
    quiet_one = made(CFG, ToyFamily(), PROMPTS[:10], tmp_path / "quiet").directory

    def sleeper(rank: int) -> int:
        precompute.draw = counted(tmp_path / "drawn", slow=0.5)
        found = made(CFG, ToyFamily(), PROMPTS[:10], tmp_path / "busy", patience=0.5)
        return 0 if len(found) == 10 else 1

    [pid] = forks.start(1, sleeper)
    end = time.monotonic() + 60
    while not (tmp_path / "drawn").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(pid, signal.SIGSTOP)
    elsewhere(tmp_path / "busy")
    found = made(CFG, ToyFamily(), PROMPTS[:10], tmp_path / "busy", patience=0.5)
    os.kill(pid, signal.SIGCONT)
    assert forks.finish([pid]) == [0]
    assert files(found.directory) == files(quiet_one)


def elsewhere(root: Path) -> None:
    """Let the lease that is held look like that of another machine."""
    [lease] = root.glob("*/leases/*.lease")
    lease.write_bytes(lease.read_bytes().replace(machine().encode(), b"elsewhere"))


@pytest.mark.fault(18)
def test_what_was_cleared_is_written_once_more(tmp_path: Path) -> None:
    """Who took us for dead clears what we have just written, before it has its name."""
    real, path = os.link, tmp_path / "shard_00000.json"
    cleared: list[int] = []

    def link(*names: Path) -> None:
        if len(cleared) < 2:
            clear(tmp_path, "shard_00000")
            cleared.append(1)
        real(*names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", link)
        assert publish(path, b"all of it")
    assert path.read_bytes() == b"all of it" and len(list(tmp_path.iterdir())) == 1
    assert not publish(path, b"another") and path.read_bytes() == b"all of it"


@pytest.mark.fault(7)
def test_what_a_killed_worker_left_behind_is_cleared(tmp_path: Path) -> None:
    """Temporary files, a shard without its JSON, and its lease."""
    directory = made(CFG, ToyFamily(), PROMPTS[:10], tmp_path).directory
    before = files(directory)
    (directory / "index.parquet").unlink()
    (directory / "shard_00001.json").unlink()
    (directory / "shard_00001.safetensors").write_bytes(b"half")
    (directory / ".shard_00001.safetensors.0a1b").write_bytes(b"half")
    (directory / ".shard_00002.json.0a1c").write_bytes(b"half")
    made(CFG, ToyFamily(), PROMPTS[:10], tmp_path)
    assert files(directory) == before
