"""Leases: one holder, given back, taken over from the dead, and never by a clock that jumps."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests import forks

from fewstep.data.leases import Leases, machine, written


def test_one_holder_who_gives_it_back(tmp_path: Path) -> None:
    with Leases(tmp_path).claim("a") as ours:
        assert ours
        with Leases(tmp_path).claim("a") as other, Leases(tmp_path).claim("b") as another:
            assert not other and another
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), Leases(tmp_path).claim("a"):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(18)
def test_the_lease_of_a_process_that_died_is_taken_over_at_once(tmp_path: Path) -> None:
    def die(rank: int) -> int:
        with Leases(tmp_path).claim("a"):
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert forks.run(1, die) == [-signal.SIGKILL]
    assert (tmp_path / "a.lease").is_file()
    with Leases(tmp_path).claim("a") as ours:
        assert ours
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(18)
def test_a_number_that_another_process_has_by_now_holds_nothing(tmp_path: Path) -> None:
    holder = {"machine": machine(), "pid": os.getpid(), "began": "1", "beat": 3}
    (tmp_path / "a.lease").write_text(json.dumps(holder))
    with Leases(tmp_path).claim("a") as ours:
        assert ours


@pytest.mark.fault(18)
def test_another_machine_is_waited_for_while_it_shows_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our own monotonic clock alone: neither times in files nor the wall clock count."""
    path, leases = tmp_path / "a.lease", Leases(tmp_path, patience=0.4)

    def taken() -> bool:
        with leases.claim("a") as ours:
            return ours

    def elsewhere(beats: int) -> None:
        path.write_bytes(written(beats).replace(machine().encode(), b"elsewhere"))

    elsewhere(0)
    os.utime(path, (0, 0))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    for beats in range(4):  # 0.8 seconds of life, twice our patience
        assert not taken()
        time.sleep(0.2)
        elsewhere(beats + 1)
    assert not taken()
    time.sleep(0.5)
    assert taken()


def test_a_long_block_keeps_its_lease(tmp_path: Path) -> None:
    with Leases(tmp_path, patience=0.3).claim("a") as ours:
        assert ours
        other = Leases(tmp_path, patience=0.3)
        other.seen["a"] = (b"", 0.0)
        for _ in range(4):
            with other.claim("a") as also:
                assert not also
            time.sleep(0.15)
        said = json.loads((tmp_path / "a.lease").read_bytes())
        assert said["pid"] == os.getpid() and said["beat"] >= 3


@pytest.mark.fault(18)
def test_who_lost_a_lease_leaves_the_new_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.lease"
    with Leases(tmp_path, patience=60).claim("a") as ours:
        assert ours
        path.rename(tmp_path / "taken")  # as another worker does after its patience
        path.write_text("of another")
    assert path.read_text() == "of another"


@pytest.mark.slow
@pytest.mark.fault(18)
def test_of_many_processes_each_piece_has_one(tmp_path: Path) -> None:
    """All pieces begin with the lease of a dead process; the takers race for it."""
    dead = {"machine": machine(), "pid": os.getpid(), "began": "1", "beat": 3}
    pieces = [f"piece{i}" for i in range(60)]
    for name in pieces:
        (tmp_path / f"{name}.lease").write_text(json.dumps(dead))
    begin = time.monotonic() + 0.5

    def work(rank: int) -> int:
        leases, mine = Leases(tmp_path), 0
        time.sleep(max(0.0, begin - time.monotonic()))
        for name in pieces:
            with leases.claim(name) as ours:
                if ours and not (tmp_path / f"{name}.done").exists():
                    (tmp_path / f"{name}.{rank}").touch(exist_ok=False)
                    time.sleep(0.002)
                    (tmp_path / f"{name}.done").touch()
                    mine += 1
        return 0

    assert forks.run(4, work) == [0] * 4
    for name in pieces:
        assert len(list(tmp_path.glob(f"{name}.[0-9]"))) == 1
    assert not list(tmp_path.glob("*.lease"))
