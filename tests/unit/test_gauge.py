"""The gauge in the loop, to the last bit, and the best that it keeps."""

from __future__ import annotations

import io
import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.games import Game, assert_same, new_run
from tests.unit.test_retention import CFG, rows

from fewstep.runs import Run, RunError
from fewstep.train import checkpoint, loop
from fewstep.train.aside import BEST, set_aside
from fewstep.train.gauge import DECISIONS, RECORD, Gauge, read_rows
from fewstep.train.loop import every
from fewstep.train.retention import RetentionConfig, Row, best, decided


def test_the_best_is_never_rotated_away(tmp_path: Path) -> None:
    game = Game()
    for step in range(1, 6):
        progress = checkpoint.Progress(step=step)
        checkpoint.save(tmp_path, progress, game.method.modules, game.optims, keep=1)
        if step == 2:
            set_aside(tmp_path, step, BEST)
    assert sorted(p.name for p in tmp_path.iterdir()) == [BEST, "latest", "step_00000005"]
    assert checkpoint.flaw(tmp_path / BEST) is None
    assert checkpoint.load(tmp_path / BEST, game.method.modules, game.optims).step == 2
    newest = checkpoint.newest(tmp_path, pytest.fail)
    assert newest is not None and newest.name == "step_00000005"
    set_aside(tmp_path, 5, BEST)
    assert json.loads((tmp_path / BEST / "state.json").read_text())["step"] == 5
    with pytest.raises(RunError, match="could not keep"):
        set_aside(tmp_path, 7, BEST)


LOSSES = {2: 0.0, 4: 0.0, 6: 0.8, 8: 0.05, 10: 0.0, 12: 0.0}


def gauge(game: Game, cfg: RetentionConfig = CFG, looked: list[int] | None = None) -> Gauge:
    """Concept scores are of the weights themselves, losses are made up: a collapse at step 6."""

    def measure(step: int) -> Row:
        if looked is not None:
            looked.append(step)
        weights = [p.detach().double().mean() for p in game.method.student.parameters()]
        concept = torch.stack(weights).mean().item() if step else 0.0
        return Row(step=step, concept=concept, loss=LOSSES.get(step, 0.0))

    return Gauge(cfg, measure, game.method.modules, game.optims, last_step=game.loop.steps)


def play(
    game: Game, run: Run, *hooks: Callable[[int], None], cfg: RetentionConfig = CFG,
    looked: list[int] | None = None,
) -> loop.Outcome:  # fmt: skip
    return loop.train(
        game.method, game.batches, game.loop, run, game.optims, [every(1, h) for h in hooks],
        seed=0, console=Console(file=io.StringIO()), gauge=gauge(game, cfg, looked),
    )  # fmt: skip


def test_there_is_a_look_at_the_end_whenever_it_comes() -> None:
    own = gauge(Game(), replace(CFG, every=5))
    assert [step for step in range(13) if own.due(step)] == [0, 5, 10, 12]


class Killed(BaseException):
    pass


def kill(at: int) -> Callable[[int], None]:
    def hook(step: int) -> None:
        if step == at:
            raise Killed

    return hook


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Game, Path]:
    game, directory = Game(), tmp_path_factory.mktemp("straight")
    with new_run(directory / "a") as run:
        outcome = play(game, run)
    assert outcome == loop.Outcome(step=12, finished=True, skipped=0)
    return game, directory / "a"


def test_a_collapse_goes_back_to_the_best_at_half_the_rate(
    straight: tuple[Game, Path], tmp_path: Path
) -> None:
    _, directory = straight
    assert [row.step for row in read_rows(directory / RECORD)] == [0, 2, 4, 6, 8, 10, 12]
    kept = best(read_rows(directory / RECORD)[:3], CFG).step
    alone = Game()  # the same, by hand
    with new_run(tmp_path / "b") as run:
        alone.train(run, steps=kept)
        back = alone.state()
        again = Game()
        seen: list[dict[str, torch.Tensor]] = []

        def after(step: int) -> None:
            if step == 6:
                raise Killed

        with new_run(tmp_path / "c") as other, pytest.raises(Killed):
            play(again, other, after)
        with Run.open(tmp_path / "c") as other:
            look = gauge(again)
            checkpoint.save(other.checkpoints, checkpoint.Progress(step=6), again.method.modules,
                            again.optims)  # fmt: skip
            look.begin(other, 6)
            updates = {name: optim.updates for name, optim in again.optims.items()}
            assert look.look(other, 6) is None
            seen.append(again.state())
    for name, value in back.items():
        if name.endswith(":updates"):
            assert seen[0][name] == updates[name.removesuffix(":updates")]
        else:
            assert torch.equal(seen[0][name], value), name
    assert again.optims["student"].cfg.lr == 0.5 * alone.optims["student"].cfg.lr


@pytest.mark.parametrize("at", [5, 6, 7, 9])
def test_a_killed_run_ends_where_the_straight_one_does(
    straight: tuple[Game, Path], tmp_path: Path, at: int
) -> None:
    """Before the collapse, at its step (after the look's checkpoint or before it) and after."""
    with new_run(tmp_path / "b") as run, pytest.raises(Killed):
        play(Game(), run, kill(at))
    resumed = Game()
    with Run.open(tmp_path / "b") as run:
        play(resumed, run)
    assert_same(straight[0].state(), resumed.state())
    for name in (RECORD, DECISIONS):
        assert (tmp_path / "b" / name).read_bytes() == (straight[1] / name).read_bytes()
    decisions = json.loads((straight[1] / DECISIONS).read_bytes())
    assert decisions == decided(read_rows(straight[1] / RECORD), CFG, 12)
    assert [back["step"] for back in decisions["returned"]] == [6]
    for run_dir in (straight[1], tmp_path / "b"):
        state = json.loads((run_dir / "checkpoints" / BEST / "state.json").read_text())
        assert state["step"] == best(read_rows(straight[1] / RECORD), CFG).step


def test_a_run_stopped_in_the_step_of_the_collapse_does_too(
    straight: tuple[Game, Path], tmp_path: Path
) -> None:
    """The signal comes before the look: the checkpoint of step 6 holds the weights before it went
    back, and the resumed run goes back by the row that is there, without another look."""

    def send(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with new_run(tmp_path / "b") as run:
        assert play(Game(), run, send) == loop.Outcome(step=6, finished=False, skipped=0)
    resumed, looked = Game(), list[int]()
    with Run.open(tmp_path / "b") as run:
        play(resumed, run, looked=looked)
    assert looked == [8, 10, 12]
    assert_same(straight[0].state(), resumed.state())


def test_a_damaged_checkpoint_is_gone_past_and_the_looks_are_repeated(
    straight: tuple[Game, Path], tmp_path: Path
) -> None:
    with new_run(tmp_path / "b") as run, pytest.raises(Killed):
        play(Game(), run, kill(9))
    file = tmp_path / "b" / "checkpoints" / "step_00000008" / "module.student.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    resumed, looked = Game(), list[int]()
    with Run.open(tmp_path / "b") as run:
        play(resumed, run, looked=looked)
    assert looked == [8, 10, 12]
    assert_same(straight[0].state(), resumed.state())


def test_patience_ends_the_run_and_a_finished_one_stays_so(tmp_path: Path) -> None:
    cfg = RetentionConfig(every=2, tolerance=0.0, collapse=1.0, patience=1)
    game = Game()
    with new_run(tmp_path / "a") as run:
        outcome = play(game, run, cfg=cfg)
    assert outcome.finished and outcome.why is not None and outcome.step < 12
    kept = best(read_rows(tmp_path / "a" / RECORD), cfg).step
    assert outcome.step == kept + 2
    again = Game()
    with Run.open(tmp_path / "a") as run:
        assert play(again, run, cfg=cfg) == outcome
        assert_same(again.state(), game.state())
        own = gauge(again, cfg)
        own.begin(run, outcome.step)
        assert own.take_best(run).step == kept
    short = Game()
    with new_run(tmp_path / "b") as run:
        short.train(run, steps=kept)
    assert_same(again.state(), short.state())


def test_a_best_that_was_replaced_is_not_gone_back_to(tmp_path: Path) -> None:
    game = Game()
    with new_run(tmp_path / "a") as run:
        for step in (2, 4):
            progress = checkpoint.Progress(step=step)
            checkpoint.save(run.checkpoints, progress, game.method.modules, game.optims)
        set_aside(run.checkpoints, 4, BEST)
        own = gauge(game)
        own.rows = rows((0.5, 0.0))
        with pytest.raises(RunError, match="is of step 4 and not of step 2"):
            own.take_best(run)


def test_a_score_that_is_no_number_is_written_and_read_again(tmp_path: Path) -> None:
    broken = Row(
        step=2, concept=math.nan, loss=math.inf, details={"steps": {"4": {"kid": math.nan}}}
    )
    with new_run(tmp_path / "a") as run:
        own = gauge(Game())
        own.rows = [*rows(), broken]
        own.write(run)
    told = [json.loads(line) for line in (tmp_path / "a" / RECORD).read_text().splitlines()]
    assert told[1]["loss"] is None and told[1]["details"] == {"steps": {"4": {"kid": None}}}
    before, found = read_rows(tmp_path / "a" / RECORD)
    assert before == rows()[0] and found.step == 2
    assert math.isnan(found.concept) and math.isnan(found.loss)
    assert best([before, found], CFG) == before
