"""SIGTERM to one of two processes, whatever they are at, ends both alike; real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests import forks
from tests.equivalence.test_ranks import words

from fewstep.cli import INTERRUPTED, app, commands, main
from fewstep.data import drawing
from fewstep.experiment.preview import Preview
from fewstep.train import checkpoint
from fewstep.train.loop import Outcome

SECONDS = 60.0
"""In which both must have ended: a collective that nobody answers waits for days."""
STEPS, EVERY = 4, 2


def command(model: Path, root: Path, out: Path) -> list[str]:
    return [
        *words(model, root, "ladd_shapes", 2), "--data.batch-size", "4",
        "--data.samples.prompts", "8", "--data.samples.batch", "2", "--loop.steps", str(STEPS),
        "--loop.checkpoint-every", str(EVERY), "--sampling.every", str(EVERY), "--out", str(out),
    ]  # fmt: skip


def term_when(file: Path) -> None:
    """SIGTERM to this process from another one, once the file is there."""
    own = os.getpid()
    if os.fork() == 0:
        while not file.exists():
            time.sleep(0.01)
        os.kill(own, signal.SIGTERM)
        os._exit(0)


@pytest.mark.fault(4)
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_while_samples_are_drawn(rank: int, model: Path, tmp_path: Path) -> None:
    """The first draws them, and the other one waits."""
    out, drawn = tmp_path / "run", tmp_path / "drawn"

    def work(own: int) -> int:
        real = drawing.euler

        def euler(*args: Any) -> Any:
            with drawn.open("a") as file:
                file.write(".")
            time.sleep(0.5)
            return real(*args)

        drawing.euler = euler
        if own == rank:
            term_when(drawn)
        return main(command(model, tmp_path, out))

    assert forks.run(2, work, SECONDS) == [INTERRUPTED] * 2
    assert 1 <= len(drawn.read_text()) < 4 and not out.exists()


MOMENTS: dict[str, tuple[type | ModuleType, str]] = {
    "preview": (Preview, "__call__"),
    "save": (checkpoint, "save"),
    "opening": (commands, "open_run"),
}


@pytest.mark.fault(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "rank"), [("opening", 1), ("preview", 0), ("preview", 1), ("save", 0), ("save", 1)]
)
def test_while_the_first_is_at_something(
    moment: str, rank: int, model: Path, tmp_path: Path
) -> None:
    """It comes at the second preview or save, both of which belong to step 2; the first are of the
    start."""
    out, pids = tmp_path / "run", [tmp_path / "pid_0", tmp_path / "pid_1"]
    owner, name = MOMENTS[moment]

    def work(own: int) -> int:
        pids[own].write_text(str(os.getpid()))
        real, loop, calls = getattr(owner, name), commands.run_loop, 0

        def function(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == (1 if moment == "opening" else 2):
                os.kill(int(pids[rank].read_text()), signal.SIGTERM)
                time.sleep(0.2)
            return real(*args, **more)

        def run_loop(*args: Any, **more: Any) -> Outcome:
            outcome = loop(*args, **more)
            (tmp_path / f"ended_{own}").write_text(str(outcome.step))
            return outcome

        setattr(owner, name, function)
        commands.run_loop = run_loop
        return main(command(model, tmp_path, out))

    assert forks.run(2, work, SECONDS) == [INTERRUPTED] * 2
    ended = {path.read_text() for path in tmp_path.glob("ended_*")}
    if moment == "opening":
        assert not ended and not (out / "metrics.jsonl").exists()
        return
    # who waits for the first in a collective operation may hear of it one step later
    assert ended == {"2"} or (rank == 1 and ended == {"3"})
    assert (out / "checkpoints/latest").read_text() == f"step_{int(ended.pop()):08d}\n"
    assert len(pids) == len(list(tmp_path.glob("pid_*"))) and not (out / "model").exists()


@pytest.mark.fault(4)
def test_sigterm_is_ctrl_c_before_and_after_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        app, "recipes", lambda _console: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5)
    )
    before = signal.getsignal(signal.SIGTERM)
    assert main(["recipes"]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.fault(4)
@pytest.mark.slow
def test_a_mistake_that_the_first_finds_ends_the_others(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*command(model, tmp_path, tmp_path / "run"), "--data.samples.height", "60"]
    assert forks.run(2, lambda rank: main(words), SECONDS) == [2, 2]
    said = capfd.readouterr().err
    assert "multiples of 8, got 60 x 64" in said
    assert "error: another process has given up before the first step, and says why" in said
