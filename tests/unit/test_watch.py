"""The watch in the loop, to the last bit, and the healthy checkpoints that it keeps."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests import forks
from tests.games import Drawn, Game, assert_same, new_run

from fewstep.data.batches import Batches
from fewstep.runs import Follower, Run, RunError
from fewstep.train import loop
from fewstep.train.alarms import GO_BACK, Policy, WatchConfig
from fewstep.train.aside import HEALTHY
from fewstep.train.gauge import Gauge
from fewstep.train.loop import every
from fewstep.train.ranks import started
from fewstep.train.retention import RetentionConfig, Row
from fewstep.train.watch import COURSE, EVIDENCE, RECORD, Watch, read_looks

CFG = WatchConfig(every=2, policy=GO_BACK)
AWAY = {8: 0.9, 10: 0.9}
"""Distances at steps; elsewhere none. The alarm is at step 10, the last healthy one of step 6."""


class Told:
    """A probe whose numbers are made up, and which speaks for the heads too: those of a toy are
    not healthy."""

    heads: Mapping[str, float] = {"spread": 1.0, "gap": 0.1, "accuracy": 0.7}

    def __init__(self, away: Mapping[int, float] = AWAY) -> None:
        self.away = away
        self.asked: list[int] = []

    def __call__(self, step: int) -> Mapping[str, float]:
        self.asked.append(step)
        return {"away": self.away.get(step, 0.0), "detail": 1.0, **self.heads}

    def follow(self, step: int) -> None:
        raise AssertionError("one process has nobody who follows")

    def beside(self) -> Mapping[str, float]:
        return {"detail": 2.0}

    def show(self, folder: Path) -> None:
        (folder / "pictures.png").write_bytes(b"")


class Killed(BaseException):
    pass


def kill(at: int) -> Callable[[int], None]:
    def hook(step: int) -> None:
        if step == at:
            raise Killed

    return hook


def game() -> Game:
    found = Game(steps=16)
    found.loop = replace(found.loop, checkpoint_every=2)
    return found


def watch_of(cfg: WatchConfig = CFG, probe: Told | None = None) -> Watch:
    return Watch(cfg, probe or Told(), steps=16, checkpoint_every=2)


def play(
    own: Game, run: Run, *hooks: Callable[[int], None], cfg: WatchConfig = CFG,
    probe: Told | None = None, said: io.StringIO | None = None,
) -> loop.Outcome:  # fmt: skip
    return loop.train(
        own.method, own.batches, own.loop, run, own.optims, [every(1, h) for h in hooks], seed=0,
        console=Console(file=said or io.StringIO(), width=300),
        watch=watch_of(cfg, probe),
    )  # fmt: skip


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Game, Path, str]:
    own, directory, said = game(), tmp_path_factory.mktemp("straight"), io.StringIO()
    with new_run(directory / "a") as run:
        assert play(own, run, said=said) == loop.Outcome(step=16, finished=True, skipped=0)
    return own, directory / "a", said.getvalue()


def test_an_alarm_takes_the_healthy_weights_at_half_the_rate(
    straight: tuple[Game, Path, str], tmp_path: Path
) -> None:
    before = Game(steps=16)  # the same, by hand
    with new_run(tmp_path / "b") as run:
        before.train(run, steps=6)
    held = before.state()
    again = game()
    watch = watch_of()
    with new_run(tmp_path / "c") as run, pytest.raises(Killed):
        loop.train(
            again.method, again.batches, again.loop, run, again.optims, [every(1, kill(10))],
            seed=0, console=Console(file=io.StringIO()), watch=watch,
        )  # fmt: skip
    updates = {name: optim.updates for name, optim in again.optims.items()}
    with Run.open(tmp_path / "c") as run:
        watch.begin(run, 10, again.method.modules, again.optims)
        rates = [optim.cfg.lr for optim in again.optims.values()]
        said: list[str] = []
        assert watch.look(run, 10, say=said.append, settle=lambda: None) is None
        seen = again.state()
    for name, value in held.items():
        if name.endswith(":updates"):
            assert seen[name] == updates[name.removesuffix(":updates")] > value
        else:
            assert torch.equal(seen[name], value), name
    assert [optim.cfg.lr for optim in again.optims.values()] == [0.5 * rate for rate in rates]
    assert len(said) == 1 and said[0].endswith("up to 0.5; back to step 6")
    assert said[0] in straight[2]


@pytest.mark.parametrize("at", [7, 9, 10, 11, 13])
def test_a_killed_run_ends_where_the_straight_one_does(
    straight: tuple[Game, Path, str], tmp_path: Path, at: int
) -> None:
    """Before the alarm, at its step and after."""
    with new_run(tmp_path / "b") as run, pytest.raises(Killed):
        play(game(), run, kill(at))
    resumed = game()
    with Run.open(tmp_path / "b") as run:
        play(resumed, run)
    assert_same(straight[0].state(), resumed.state())
    for name in (RECORD, COURSE):
        assert (tmp_path / "b" / name).read_bytes() == (straight[1] / name).read_bytes()
    # what the two newest checkpoints may come to need, and no more
    assert (
        kept(tmp_path / "b") == kept(straight[1]) == [f"healthy_{i:08d}" for i in (4, 12, 14, 16)]
    )


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob(f"{HEALTHY}*"))


def test_a_run_stopped_in_the_step_of_the_alarm_does_too(
    straight: tuple[Game, Path, str], tmp_path: Path
) -> None:
    def send(step: int) -> None:
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with new_run(tmp_path / "b") as run:
        assert not play(game(), run, send).finished
    resumed, probe = game(), Told()
    with Run.open(tmp_path / "b") as run:
        play(resumed, run, probe=probe)
    assert probe.asked == [12, 14, 16]  # the look of step 10 is there
    assert_same(straight[0].state(), resumed.state())


def test_what_lies_in_the_run(straight: tuple[Game, Path, str]) -> None:
    _, directory, _ = straight
    looks = read_looks(directory)
    assert [row["step"] for row in looks] == list(range(0, 17, 2))
    assert looks[0]["beside"] == {"detail": 2.0} and looks[1]["beside"] == {}
    assert set(looks[2]["values"]) == {"skipped", "away", "detail", *Told.heads}
    course = json.loads((directory / COURSE).read_bytes())
    assert course["bands"]["detail"]["low"] == pytest.approx(0.3)
    assert course["bands"]["detail"]["high"] == pytest.approx(6.0)
    [alarm] = [a for a in course["alarms"] if a["name"] == "far"]
    assert (alarm["step"], alarm["back_to"], course["rate"]) == (10, 6, 0.5)
    evidence = directory / EVIDENCE / "step_00000010"
    told = json.loads((evidence / "alarms.json").read_bytes())
    assert told["values"]["away"] == 0.9 and (evidence / "pictures.png").is_file()


def test_signs_of_rows_are_means_over_the_steps_since_the_last_look(tmp_path: Path) -> None:
    probe = Told({})
    probe.heads = {}
    cfg = replace(CFG, every=6, policy=Policy())
    with new_run(tmp_path / "a") as run:
        play(game(), run, probe=probe, cfg=cfg)
        rows = [row for row in run.metrics() if row["phase"] == "heads"]
    look = {row["step"]: row["values"] for row in read_looks(tmp_path / "a")}
    own = [row for row in rows if 6 < row["step"] <= 12]
    assert [row["step"] for row in own] == [8, 10, 12]
    assert look[12]["gap"] == pytest.approx(sum(row["gap"] for row in own) / 3)
    std, real = (sum(row[name] for row in own) for name in ("x0_hat_std", "x0_std"))
    assert look[12]["spread"] == pytest.approx(std / real)
    assert "gap" not in look[0] and "gap" not in look[6]  # the student has not begun before


def test_the_last_look_ends_with_healthy_weights(tmp_path: Path) -> None:
    probe = Told({14: 0.9, 16: 0.9})
    own = game()
    with new_run(tmp_path / "a") as run:
        outcome = play(own, run, probe=probe)
    assert (outcome.step, outcome.finished, outcome.weights) == (16, True, 12)
    assert outcome.why == "the alarm far at its last step"
    other = Game(steps=16)
    with new_run(tmp_path / "b") as run:
        other.train(run, steps=12)
    found, wanted = own.state(), other.state()
    assert all(torch.equal(found[n], wanted[n]) for n in wanted if not n.endswith(":updates"))
    with Run.open(tmp_path / "a") as run:  # the same command again
        assert play(game(), run, probe=probe) == outcome


def test_a_policy_that_only_looks_changes_nothing(tmp_path: Path) -> None:
    plain, watched = game(), game()
    with new_run(tmp_path / "a") as run:
        plain.train(run)
    with new_run(tmp_path / "b") as run:
        outcome = play(watched, run, cfg=replace(CFG, policy=Policy()))
    assert outcome.why is None and outcome.weights is None
    assert_same(plain.state(), watched.state())
    assert kept(tmp_path / "b") == []
    assert (tmp_path / "b" / EVIDENCE / "step_00000010").is_dir()
    silent = Policy(**dict.fromkeys(vars(Policy()), "log"))
    with new_run(tmp_path / "c") as run:
        play(game(), run, cfg=replace(CFG, policy=silent))
    assert not (tmp_path / "c" / EVIDENCE).exists()


def test_numbers_that_are_not_finite_are_written_and_read_again(tmp_path: Path) -> None:
    said = io.StringIO()
    with new_run(tmp_path / "a") as run:
        play(game(), run, probe=Told({4: math.nan}), said=said)
    rows = read_looks(tmp_path / "a")
    assert rows[2]["values"]["away"] is None
    assert "alarm at step 4: far" in said.getvalue() and "back to step 2" in said.getvalue()


def test_what_is_gone_or_broken_is_said(tmp_path: Path) -> None:
    with new_run(tmp_path / "a") as run, pytest.raises(Killed):
        play(game(), run, kill(9))
    for path in (tmp_path / "a" / "checkpoints").glob(f"{HEALTHY}*"):
        shutil.rmtree(path)
    shutil.rmtree(tmp_path / "a" / "checkpoints" / "step_00000006")
    with (
        Run.open(tmp_path / "a") as run,
        pytest.raises(RunError, match=r"goes back to step 6, but .*healthy_00000006 is not there"),
    ):
        play(game(), run)
    (tmp_path / "a" / RECORD).write_text('{"step": 0}\n')
    with (
        Run.open(tmp_path / "a") as run,
        pytest.raises(RunError, match="is not a record of looks"),
    ):
        play(game(), run)


def test_what_an_interruption_leaves_does_not_end_a_run_that_goes_back(tmp_path: Path) -> None:
    """Looks, checkpoints and kills at steps of their own: a run that resumes may need what a later
    look had given up."""

    def apart(keep: int) -> Game:
        found = Game(steps=32)
        found.loop = replace(found.loop, checkpoint_every=4, keep=keep)
        return found

    def run_of(
        own: Game,
        run: Run,
        cfg: WatchConfig,
        away: Mapping[int, float],
        *hooks: Callable[[int], None],
    ) -> loop.Outcome:
        return loop.train(
            own.method, own.batches, own.loop, run, own.optims, [every(1, h) for h in hooks],
            seed=0, console=Console(file=io.StringIO()),
            watch=Watch(cfg, Told(away), steps=32, checkpoint_every=4),
        )  # fmt: skip

    def send(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    once = replace(CFG, every=6, patience=1)
    cases = [
        (2, CFG, {6: 0.9, 8: 0.6, 14: 0.9, 16: 0.9}, kill(19)),
        (2, CFG, {14: 0.9, 16: 0.9, 18: 0.9}, kill(21)),
        (1, once, {12: 0.9}, send),
        (1, once, {12: 0.9}, kill(13)),
    ]
    for i, (keep, cfg, away, stop) in enumerate(cases):
        straight, resumed = apart(keep), apart(keep)
        with new_run(tmp_path / f"{i}a") as run:
            outcome = run_of(straight, run, cfg, away)
        with new_run(tmp_path / f"{i}b") as run, suppress(Killed):
            run_of(apart(keep), run, cfg, away, stop)
        with Run.open(tmp_path / f"{i}b") as run:
            assert run_of(resumed, run, cfg, away) == outcome
        assert_same(straight.state(), resumed.state())
        records = [(tmp_path / f"{i}{name}" / RECORD).read_bytes() for name in "ab"]
        assert records[0] == records[1]


def test_a_gauge_beside_it_keeps_its_rates(tmp_path: Path) -> None:
    def played(directory: Path, watch: Watch | None, *hooks: Callable[[int], None]) -> list[float]:
        own, rates = game(), list[float]()
        losses = {8: 0.9}

        def measure(step: int) -> Row:
            return Row(step=step, concept=0.1 * step, loss=losses.get(step, 0.0))

        gauge = Gauge(
            RetentionConfig(every=4), measure, own.method.modules, own.optims, last_step=16
        )

        def note(_step: int) -> None:
            rates.append(own.optims["student"].cfg.lr)

        run = Run.open(directory) if directory.exists() else new_run(directory)
        with run, suppress(Killed):
            loop.train(
                own.method, own.batches, own.loop, run, own.optims,
                [every(1, h) for h in (note, *hooks)], seed=0,
                console=Console(file=io.StringIO()), gauge=gauge, watch=watch,
            )  # fmt: skip
        return rates

    quiet = replace(CFG, policy=Policy())
    alone = played(tmp_path / "a", None)
    assert alone[-1] == 0.5 * alone[0]
    assert played(tmp_path / "b", watch_of(quiet, Told({}))) == alone
    first = played(tmp_path / "c", watch_of(quiet, Told({})), kill(13))
    again = played(tmp_path / "c", watch_of(quiet, Told({})))
    assert first == alone[:13] and set(again) == {alone[-1]}


def go_back_together(directory: Path) -> int:
    """One of several processes: an alarm at step 10, and one at the end."""
    with started("cpu") as ranks:
        own = game()
        own.batches = Batches(Drawn(), batch_size=6, seed=0, micro_batch=3)
        if ranks.first:
            new_run(directory).close()
        ranks.wait()
        probe = Told({**AWAY, 14: 0.9, 16: 0.9})
        run = Run.open(directory) if ranks.first else Follower(directory)
        with run:
            outcome = loop.train(
                own.method, own.batches, own.loop, run, own.optims, seed=0,
                console=Console(file=io.StringIO()), ranks=ranks, watch=watch_of(CFG, probe),
            )  # fmt: skip
        assert (outcome.why, outcome.weights) == ("the alarm far at its last step", 12)
        assert probe.asked == (list(range(0, 17, 2)) if ranks.first else [])
        last = [float(p.double().sum()) for p in own.method.modules["student"].parameters()]
        ranks.agree("student", last)
        ranks.agree("rate", own.optims["student"].cfg.lr)
    return 0


@pytest.mark.slow
def test_several_processes_go_back_together(tmp_path: Path) -> None:
    assert forks.run(2, lambda rank: go_back_together(tmp_path / "a")) == [0, 0]
    assert "healthy_00000012" in kept(tmp_path / "a")


def test_a_watch_that_never_looks_is_none() -> None:
    with pytest.raises(ValueError, match="must look every n >= 1 steps, got 0"):
        watch_of(WatchConfig())
    own = watch_of(replace(CFG, every=5))
    assert [step for step in range(17) if own.due(step)] == [0, 5, 10, 15, 16]
