"""Killed or short of space while it saves, a run goes on from its newest whole checkpoint."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
from tests import boundaries, forks
from tests.equivalence.test_resume import rows
from tests.games import Game, assert_same, new_run

from fewstep.runs import Run, RunError
from fewstep.train import checkpoint

FIRST, SECOND, STEPS = 2, 4, 5
"""Checkpoints come every second step, and saving the second one drops the first."""


def trained(directory: Path) -> Game:
    game = Game(steps=STEPS)
    run = Run.open(directory) if (directory / "config.yaml").exists() else new_run(directory)
    with run:
        game.train(run, checkpoint_every=2, keep=1)
    return game


def killed_saves(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Game, list[Path]]:
    """A run that was not stopped, and copies of it of which each was killed one call later than the
    one before while it saved its second checkpoint; the last was not."""
    real, copies = checkpoint.save, list[Path]()

    def save(folder: Path, progress: checkpoint.Progress, *state: object, keep: int) -> Path:
        code = -signal.SIGKILL
        while progress.step == SECOND and code:
            copy = directory.with_name(f"killed_{len(copies):03d}")
            shutil.copytree(directory, copy)
            copies.append(copy)
            child = os.fork()
            if child == 0:
                try:
                    boundaries.kill_at(len(copies) - 1)
                    real(copy / "checkpoints", progress, *state, keep=keep)  # pyright: ignore
                finally:
                    os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, -signal.SIGKILL)
        return real(folder, progress, *state, keep=keep)  # pyright: ignore

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        return trained(directory), copies


@pytest.mark.fault(1)
@pytest.mark.slow
def test_trap31_killed_at_every_boundary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, copies = killed_saves(tmp_path / "straight", monkeypatch)
    begun_from: list[int] = []
    for copy in copies:
        folder = copy / "checkpoints"
        partial = list(folder.glob(".step_*"))
        resumed = trained(copy)
        said = resumed.said.getvalue()
        assert all(f"{path} is a checkpoint that was never finished" in said for path in partial)
        begun_from += [step for step in (FIRST, SECOND) if f"resumed at step {step} " in said]
        assert_same(straight.state(), resumed.state())
        assert rows(copy) == rows(tmp_path / "straight")
        left = {path.name for path in folder.iterdir()}
        assert left == {f"step_{STEPS:08d}", "latest"}
    # the first is used as long as the second is not whole, and never after that
    assert len(begun_from) == len(copies) > 40
    assert begun_from == sorted(begun_from) and set(begun_from) == {FIRST, SECOND}


@pytest.mark.fault(5)
@pytest.mark.parametrize("size", [100, 30_000])
def test_a_limit_of_file_sizes_ends_the_run_and_the_old_checkpoint_serves(
    tmp_path: Path, size: int
) -> None:
    """The system's own refusal, at the beginning of a file or in the middle of a large one."""
    straight = trained(tmp_path / "straight")
    broken = tmp_path / "broken"

    def work(_rank: int) -> int:
        """Rows of metrics are short; the limit comes with the second checkpoint."""
        real = checkpoint.save

        def save(folder: Path, progress: checkpoint.Progress, *state: object, keep: int) -> Path:
            if progress.step == SECOND:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            return real(folder, progress, *state, keep=keep)  # pyright: ignore

        checkpoint.save = save
        with pytest.raises(RunError, match=r"could not save .*step_00000004: .*older checkpoints"):
            trained(broken)
        return 0

    assert forks.run(1, work) == [0]
    assert {path.name for path in (broken / "checkpoints").iterdir()} == {"step_00000002", "latest"}
    assert checkpoint.flaw(broken / "checkpoints/step_00000002") is None
    resumed = trained(broken)
    assert f"resumed at step {FIRST} " in resumed.said.getvalue()
    assert_same(straight.state(), resumed.state())
    assert rows(broken) == rows(tmp_path / "straight")
