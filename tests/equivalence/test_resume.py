"""A run that was stopped, killed or broken off ends where one that was not does, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.games import Game, assert_same, new_run

from fewstep.runs import Run, read_metrics
from fewstep.train import checkpoint, loop

CLOCKS = ("time", "seconds_per_step", "cpu_seconds_per_step", "peak_memory_mb")


def rows(directory: Path) -> list[dict[str, object]]:
    """What was logged, without clock and memory."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_metrics(directory)]


@pytest.mark.fault(2)
def test_trap24_2k_straight_is_k_resume_k(tmp_path: Path) -> None:
    straight = Game()
    with new_run(tmp_path / "a") as run:
        assert straight.train(run).finished
    stopped = Game()
    with new_run(tmp_path / "b") as run:
        stopped.train(run, steps=6)
    resumed = Game()  # a new process knows nothing
    with Run.open(tmp_path / "b") as run:
        outcome = resumed.train(run)
    assert outcome == loop.Outcome(step=12, finished=True, skipped=0)
    assert "resumed at step 6" in resumed.said.getvalue()
    assert_same(straight.state(), resumed.state())


@pytest.mark.fault(2)
def test_trap24_a_killed_run_repeats_what_it_lost(tmp_path: Path) -> None:
    """Killed at step 9, resumed from the checkpoint at 5: same weights, same rows of metrics."""
    straight = Game()
    with new_run(tmp_path / "a") as run:
        straight.train(run)

    class Killed(BaseException):
        pass

    def kill(step: int) -> None:
        if step == 9:
            raise Killed

    killed = Game()
    with new_run(tmp_path / "b") as run, pytest.raises(Killed):
        loop.train(
            killed.method, killed.batches, killed.loop, run, killed.optims,
            [loop.every(1, kill)], seed=0,
        )  # fmt: skip
    assert max(int(str(row["step"])) for row in rows(tmp_path / "b")) == 8
    resumed = Game()
    with Run.open(tmp_path / "b") as run:
        resumed.train(run)
    assert_same(straight.state(), resumed.state())
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


@pytest.mark.fault(4)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    straight = Game()
    with new_run(tmp_path / "a") as run:
        straight.train(run)
    game = Game()
    before = signal.getsignal(number)

    def send(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), number)

    with new_run(tmp_path / "b") as run:
        outcome = loop.train(
            game.method, game.batches, game.loop, run, game.optims, [loop.every(1, send)], seed=0
        )
        assert not outcome.finished
        assert outcome.step == 7
        found = checkpoint.newest(run.checkpoints, pytest.fail)
        assert found is not None and found.name == "step_00000007"
    assert signal.getsignal(number) is before
    resumed = Game()
    with Run.open(tmp_path / "b") as run:
        resumed.train(run)
    assert_same(straight.state(), resumed.state())


def test_damaged_newest_checkpoint_is_named_and_the_one_before_used(tmp_path: Path) -> None:
    straight = Game()
    with new_run(tmp_path / "a") as run:
        straight.train(run)
    stopped = Game()
    with new_run(tmp_path / "b") as run:
        stopped.train(run, steps=10)
        file = run.checkpoints / "step_00000010" / "optim.heads.safetensors"
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
    resumed = Game()
    with Run.open(tmp_path / "b") as run:
        resumed.train(run)
    said = resumed.said.getvalue()
    assert "step_00000010 is ignored: optim.heads.safetensors is corrupted" in said
    assert "resumed at step 5" in said
    assert_same(straight.state(), resumed.state())


def test_micro_batches_do_not_change_where_training_ends(tmp_path: Path) -> None:
    """Trap 23 through the whole loop: sizes 1, 2 and 6 of 6, softplus because of the 1."""
    from dataclasses import replace

    from tests.games import CFG
    from torch.testing import assert_close

    ends = []
    for micro_batch in (1, 2, 6):
        game = Game(steps=4, cfg=replace(CFG, loss="softplus"), micro_batch=micro_batch)
        with new_run(tmp_path / str(micro_batch)) as run:
            game.train(run)
        ends.append(game.state())
    for other in ends[1:]:
        for name, value in ends[0].items():
            assert_close(other[name], value, rtol=2e-3, atol=2e-5)
