"""The folder of a sweep: which trials there are, who works on one, and how each has ended.

    sweep.yaml                        what was asked for
    journal.log                       what the sampler was told (Optuna)
    trials/0007/trial.json            the change of a trial, written when its number is given out
    trials/0007/seed_0/               an ordinary run directory
    trials/0007/seed_0.json           how that run was scored, or why it could not be
    trials/0007/seed_0.safetensors    its draws
    trials/0007/result.json           how the trial has ended

Numbers are given out under the lock of the folder (`data.cache.alone`), and who works on a trial
holds the lock of its directory, by the lock that a run has (`runs.Run`): flock, which vanishes with
its process. A trial without a result whose lock is free has lost its worker: whoever comes next
takes it up before a new one, skips seeds that are scored and goes on from the checkpoint of the run
that was cut short. Optuna's own heartbeats are not needed for that, and its trials stay as they
are: the n-th of the journal is the n-th here, and is told its score under the same lock. A shared
folder must serve flock to all machines, as NFS 4 and Lustre (mounted with -o flock) do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file, save

from fewstep.errors import UserError
from fewstep.experiment.codec import changed
from fewstep.experiment.config import Experiment
from fewstep.runs import Run, RunError, check_new, write_atomic
from fewstep.sweep.decide import SeedDraws
from fewstep.sweep.plan import FILE, Plan, check_same, to_text
from fewstep.sweep.space import Change

State = Literal["complete", "pruned", "failed", "repeated", "refused"]
"""Scored on every seed; given up on the way; without a score; a configuration that there was
before; an answer of a proposer that could not be run."""


@dataclass(frozen=True)
class Sweep:
    directory: Path
    plan: Plan

    @property
    def trials(self) -> Path:
        return self.directory / "trials"


@dataclass(frozen=True, kw_only=True)
class Result:
    state: State
    why: str = ""
    seeds: tuple[int, ...] = ()
    """Training seeds that were scored."""
    kept: bool | None = None
    """Whether a proposed change stays; None where nothing was proposed."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    number: int
    directory: Path
    change: Change
    """On top of the recipe."""
    proposed: Change = field(default_factory=dict)
    """The part of it that a proposer has asked for."""
    parent: int | None = None
    """The trial that the proposal was put on."""
    result: Result | None = None
    """None while it is not over."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One training run."""

    seed: int
    draws: Mapping[str, np.ndarray]
    """(1 + replicates,) by metric; empty where the run has failed."""
    why: str = ""
    """Why there is no score."""
    seconds: float = 0.0
    """Of its training steps."""

    @property
    def failed(self) -> bool:
        return not self.draws


def open_sweep(directory: Path, plan: Plan) -> Sweep:
    """A new sweep, or the one that is there; UserError where that is another one. Under the lock
    of the directory."""
    if (directory / FILE).exists():
        check_same(directory, plan)
    else:
        check_new(directory)
        write_atomic(directory / FILE, to_text(plan).encode())
    return Sweep(directory, plan)


def trials_of(sweep: Sweep) -> list[Trial]:
    """By number. A directory without trial.json was never given out."""
    return [read_trial(p.parent) for p in sorted(sweep.trials.glob("*/trial.json"))]


def read_trial(directory: Path) -> Trial:
    found = read_json(directory / "trial.json")
    result = None
    if (path := directory / "result.json").exists():
        own = read_json(path)
        result = Result(**{**own, "seeds": tuple(own["seeds"])})
    return Trial(directory=directory, result=result, **found)


def new_trial(
    sweep: Sweep, number: int, change: Change, proposed: Change | None = None,
    parent: int | None = None,
) -> Trial:  # fmt: skip
    """Give the number out, under the lock of the sweep's directory."""
    directory = sweep.trials / f"{number:04d}"
    directory.mkdir(parents=True, exist_ok=True)
    facts = {"number": number, "change": dict(change), "proposed": dict(proposed or {}),
             "parent": parent}  # fmt: skip
    write_json(directory / "trial.json", facts)
    return Trial(directory=directory, **facts)


def begin_trial(sweep: Sweep, number: int, change: Change) -> tuple[Trial, Run]:
    """The same with its lock, which is held before anybody can know of the trial."""
    directory = sweep.trials / f"{number:04d}"
    directory.mkdir(parents=True, exist_ok=True)
    held = Run(directory)
    try:
        return new_trial(sweep, number, change), held
    except BaseException:
        held.close()
        raise


def end_trial(trial: Trial, result: Result) -> Trial:
    found = {"state": result.state, "why": result.why, "seeds": list(result.seeds),
             "kept": result.kept}  # fmt: skip
    write_json(trial.directory / "result.json", found)
    return read_trial(trial.directory)


def lock(trial: Trial) -> Run | None:
    """The trial's lock, to be closed; None where another worker has it."""
    try:
        return Run(trial.directory)  # neither created nor opened: it is no run
    except RunError as error:
        if isinstance(error.__cause__, BlockingIOError):
            return None
        raise


def is_running(trial: Trial) -> bool:
    """Whether it is not over, and somebody works on it."""
    if trial.result is not None or (found := lock(trial)) is None:
        return trial.result is None
    found.close()
    return False


def experiment_of(sweep: Sweep, trial: Trial, seed: int) -> Experiment:
    """UserError where the configuration refuses the change."""
    return changed(sweep.plan.base, {**trial.change, "seed": seed})


def run_of(trial: Trial, seed: int) -> Path:
    return trial.directory / f"seed_{seed}"


def write_scored(trial: Trial, scored: Scored) -> None:
    """The draws first: what has its JSON is whole."""
    path = run_of(trial, scored.seed)
    arrays = {key: np.ascontiguousarray(own) for key, own in scored.draws.items()}
    write_atomic(path.with_suffix(".safetensors"), save(arrays))
    value = {key: float(own[0]) if np.isfinite(own[0]) else None for key, own in arrays.items()}
    facts = {"seed": scored.seed, "why": scored.why, "seconds": scored.seconds, "metrics": value}
    write_json(path.with_suffix(".json"), facts)


def read_scored(trial: Trial, seed: int) -> Scored | None:
    """None where this run has not been scored yet."""
    path = run_of(trial, seed)
    if not path.with_suffix(".json").exists():
        return None
    found = read_json(path.with_suffix(".json"))
    draws = load_file(path.with_suffix(".safetensors"))
    return Scored(seed=seed, draws=draws, why=found["why"], seconds=found["seconds"])


def draws_of(trial: Trial, seeds: tuple[int, ...] | range, key: str) -> SeedDraws:
    """(seeds, 1 + replicates) of a metric. UserError for a seed without a score."""
    rows = [read_scored(trial, seed) for seed in seeds]
    if any(row is None or row.failed for row in rows):
        raise UserError(f"{trial.directory} lacks a score of one of the seeds {list(seeds)}")
    return np.stack([row.draws[key] for row in rows if row is not None])


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}; delete its trial, which is then run "
                        "again") from None  # fmt: skip


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n")
