"""Workers on one folder: nothing is run twice, nothing is lost, whoever dies when."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import forks
from tests.unit.sweep.toy_sweep import Log, nothing, opened, plan_of, same

from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.sweep.result import result
from fewstep.sweep.runner import run_trial
from fewstep.sweep.sampler import next_change
from fewstep.sweep.store import Sweep, trials_of
from fewstep.sweep.worker import take, work
from fewstep.train.loop import NotFiniteError


def swept(directory: Path, **more: Any) -> tuple[Sweep, Log]:
    sweep, log = opened(directory, plan_of(**more)), Log(directory / "runs.txt")
    assert work(sweep, log.means(), nothing)
    return sweep, log


def states(sweep: Sweep) -> list[str]:
    return [t.result.state for t in trials_of(sweep) if t.result is not None]


def test_a_sweep_finds_the_better_rate_and_says_so_on_new_seeds(tmp_path: Path) -> None:
    sweep, log = swept(tmp_path, trials=12)
    facts = result(sweep, "x")
    assert facts["over"] and len(facts["trials"]) == 12
    assert facts["trials"][0]["change"] == {}
    best = next(row for row in facts["trials"] if row["number"] == facts["winner"])
    assert 1e-4 < best["change"]["optim.student.lr"] < 1e-2 and best["better"]
    told = f"Trial {facts['winner']} is better than the recipe on 3 new training seeds: KID -"
    assert facts["verdict"].startswith(told)
    # what is much worse had one seed, and the seeds at the end are new
    pruned = [row for row in facts["trials"] if row["state"] == "pruned"]
    assert pruned and all(row["seeds"] == [0] for row in pruned)
    assert all("on the same seed" in row["why"] for row in pruned)
    assert [own["seeds"] for own in facts["fresh"]] == [[2, 3, 4]] * 2
    for own in facts["fresh"]:
        curse = own["sweep"]["value"] - own["afresh"]["value"]
        assert own["curse"]["value"] == pytest.approx(curse)
    assert len(log.lines("begin")) == facts["runs"]["done"] <= facts["runs"]["planned"]
    assert facts["importance"].keys() == sweep.plan.space.keys()
    # the same command again has nothing to do
    before = log.path.read_text()
    assert work(sweep, log.means(), nothing)
    assert log.path.read_text() == before and same(result(sweep, "x")) == same(facts)


def test_two_workers_share_the_trials(tmp_path: Path) -> None:
    sweep = opened(tmp_path, plan_of(trials=8))
    log = Log(tmp_path / "runs.txt", 0.05)

    def one(rank: int) -> int:
        return 0 if work(sweep, log.means(), nothing) else 1

    assert forks.run(2, one) == [0, 0]
    assert [t.number for t in trials_of(sweep)] == list(range(8))
    assert len(states(sweep)) == 8
    begun = log.lines("begin")
    assert len(begun) == len(set(begun)) and sorted(begun) == sorted(log.lines("end"))
    assert result(sweep, "x")["over"]


def test_killed_in_a_trial_and_resumed_it_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    quiet, _ = swept(tmp_path / "quiet")
    sweep = opened(tmp_path / "struck")
    log = Log(tmp_path / "struck" / "runs.txt", 0.15)
    blows = (2, 6, 11)  # in a trial, in a later one, and among the fresh runs
    for begun in blows:
        [pid] = forks.start(1, lambda _: 0 if work(sweep, log.means(), nothing) else 1)
        until(lambda begun=begun: len(log.lines("begin")) >= begun)
        os.kill(pid, signal.SIGKILL)
        assert forks.finish([pid]) == [-signal.SIGKILL]
    assert work(sweep, replace(log.means(), train=Log(log.path).train), nothing)
    ended = log.lines("end")
    assert len(ended) == len(set(ended)) == result(sweep, "x")["runs"]["done"]
    assert len(log.lines("begin")) <= len(ended) + len(blows)
    assert same(result(sweep, "x")) == same(result(quiet, "x"))


def until(true: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_death_between_journal_and_folder_loses_no_suggestion(tmp_path: Path) -> None:
    sweep, log = opened(tmp_path), Log(tmp_path / "runs.txt")
    taken = take(sweep)
    assert taken is not None and taken[0].change == {}
    taken[1].close()
    with alone(tmp_path):
        asked = next_change(sweep, trials_of(sweep))
        assert next_change(sweep, trials_of(sweep)) == asked  # the journal has it, the folder not
    (tmp_path / "journal.log").open("ab").write(b'{"op_code": 4, "worker')  # a power cut
    assert work(sweep, log.means(), nothing)
    assert trials_of(sweep)[1].change == asked


def test_an_interrupted_trial_is_the_next_one_to_go_on(tmp_path: Path) -> None:
    sweep, log = opened(tmp_path), Log(tmp_path / "runs.txt")
    with pytest.raises(KeyboardInterrupt):
        work(sweep, log.means(train=lambda *_: False), nothing)
    assert states(sweep) == []
    taken = take(sweep, begin=False)
    assert taken is not None and taken[0].number == 0
    assert take(sweep, begin=False) is None  # it has a worker
    taken[1].close()


def test_the_recipe_is_never_given_up_though_others_end_first(tmp_path: Path) -> None:
    sweep, log = opened(tmp_path), Log(tmp_path / "runs.txt")
    first = take(sweep)
    assert first is not None
    while (other := take(sweep)) is not None:
        with closing(other[1]):
            run_trial(sweep, other[0], log.means())
    assert result(sweep, "x")["winner"] > 0 and not result(sweep, "x")["over"]
    first[1].close()
    assert work(sweep, log.means(), nothing)
    facts = result(sweep, "x")
    assert facts["trials"][0]["seeds"] == [0, 1] and facts["over"]
    assert min(row["gain"]["value"] for row in facts["trials"][1:] if row["gain"]) < 0


def test_when_time_is_over_nothing_new_begins_and_the_end_is_run(tmp_path: Path) -> None:
    sweep, log = opened(tmp_path), Log(tmp_path / "runs.txt")
    ticks = iter([0.0, 0.0, 2.0, 2.0])
    assert work(sweep, log.means(), nothing, until=1.0, clock=lambda: next(ticks))
    facts = result(sweep, "x")
    assert len(facts["trials"]) == 2 and facts["over"]


def test_what_the_recipe_refuses_is_a_failed_trial_and_no_crash(tmp_path: Path) -> None:
    vary = ("data.batch_size=2,64", "data.micro_batch=2,64")
    sweep, _ = swept(tmp_path, vary=vary, trials=10)
    failed = [t.result for t in trials_of(sweep) if t.result and t.result.state == "failed"]
    assert failed and all("data.micro_batch must lie in" in own.why for own in failed)
    # the same configuration is not run twice
    assert "repeated" in states(sweep)
    rows = result(sweep, "x")["trials"]
    assert all("the same configuration as trial" in r["why"] for r in rows
               if r["state"] == "repeated")  # fmt: skip


def test_training_that_ends_in_noise_is_a_failed_trial_but_of_the_recipe_a_mistake(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path / "runs.txt")

    def train(experiment: Experiment, run: Path) -> bool:
        if experiment.optim.student.lr > 1e-4:
            raise NotFiniteError("10 steps in a row were not finite")
        return log.train(experiment, run)

    sweep = opened(tmp_path / "a", plan_of(trials=6))
    assert work(sweep, log.means(train=train), nothing)
    assert "failed" in states(sweep) and states(sweep)[0] == "complete"

    def never(experiment: Experiment, run: Path) -> bool:
        raise UserError("there is no such model")

    with pytest.raises(UserError, match="recipe itself cannot be swept: there is no such model"):
        work(opened(tmp_path / "b"), log.means(train=never), nothing)
    assert work(opened(tmp_path / "b"), log.means(), nothing)  # once that is repaired


def test_a_finalist_that_fails_on_a_new_seed_has_not_won(tmp_path: Path) -> None:
    log = Log(tmp_path / "runs.txt")

    def train(experiment: Experiment, run: Path) -> bool:
        if experiment.seed == 3 and experiment.optim.student.lr != 1e-4:
            raise NotFiniteError("noise")
        return log.train(experiment, run)

    sweep = opened(tmp_path, plan_of(trials=6))
    assert work(sweep, log.means(train=train), nothing)
    facts = result(sweep, "x")
    assert facts["winner"] == 0 and facts["verdict"].startswith("The recipe stays")
    assert {own["why"] for own in facts["fresh"]} == {"", "seed 3: noise"}
    assert not any(own["holds"] for own in facts["fresh"])


def test_lean_runs_keep_their_record_alone(tmp_path: Path) -> None:
    sweep, log = opened(tmp_path, plan_of(trials=1)), Log(tmp_path / "runs.txt")

    def train(experiment: Experiment, run: Path) -> bool:
        (run / "model").mkdir(parents=True)
        (run / "metrics.jsonl").touch()
        return log.train(experiment, run)

    assert work(sweep, replace(log.means(train=train), lean=True), nothing)
    assert [p.name for p in (tmp_path / "trials/0000/seed_0").iterdir()] == ["metrics.jsonl"]
    assert result(sweep, "x")["runs"]["done"] == 5


def test_another_command_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    opened(tmp_path)
    with pytest.raises(UserError, match=r"another command \(trials: 5 there, 6 here\)"):
        opened(tmp_path, plan_of(trials=6))
    with pytest.raises(UserError, match=r"method\.loss"):
        opened(tmp_path, plan_of(vary=("optim.student.lr=1e-5..1e-1:log",)))
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(UserError, match="choose another directory"):
        opened(tmp_path / "run")
