"""A clock that is set back while a run trains: no time is negative, and nothing stops."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from tests.games import Game, assert_same, new_run

from fewstep.report.collect import training
from fewstep.train import loop

HOUR = 3600.0


@pytest.mark.fault(18)
def test_an_hour_back_in_the_middle_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, game = Game(steps=6), Game(steps=6)
    with new_run(tmp_path / "a") as run:
        straight.train(run, log_every=1)
    real = time.time

    def set_back(step: int) -> None:
        if step == 3:
            monkeypatch.setattr(time, "time", lambda: real() - HOUR)

    said = io.StringIO()
    monkeypatch.setattr("fewstep.train.progress.QUIET", 0.0)  # a line for each row
    with new_run(tmp_path / "b") as run:
        loop.train(
            game.method, game.batches, loop.LoopConfig(steps=6, log_every=1), run, game.optims,
            [loop.every(1, set_back)], seed=0, console=Console(file=said, width=200),
        )  # fmt: skip
        rows = run.metrics()
    assert_same(straight.state(), game.state())
    times = [row["time"] for row in rows]
    assert times[0] - times[-1] > HOUR / 2  # it is what the clock has said
    taken = [row["seconds_per_step"] for row in rows if row["phase"] == "loop"]
    assert len(taken) == 6 and all(0 <= seconds < 60 for seconds in taken)
    told = re.findall(r"train (\d)/6, (\d+) s left", said.getvalue())
    assert [step for step, _ in told] == list("123456")  # nor is the line silent for an hour
    assert not re.search(r"-\d+ (s|min|h) left", said.getvalue())
    found = training(rows, {})
    assert found.seconds is not None and 0 <= found.seconds < 360
    bare = [{"step": row["step"], "time": row["time"]} for row in rows]  # of another program
    assert training(bare, {}).seconds == 0
