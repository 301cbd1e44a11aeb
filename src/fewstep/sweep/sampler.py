"""Where the next change comes from: Optuna's TPE, in a journal beside the trials.

The n-th trial of the journal is the n-th of the folder. Everything here happens under the lock of
the sweep's directory, so the journal has one writer at a time. The sampler is seeded anew for every
trial, by its number: what it proposes depends on what it was told, not on who asks or how often a
worker was killed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState, create_trial

from fewstep import jsonl
from fewstep.experiment.codec import flat, to_dict
from fewstep.rng import seed_of
from fewstep.sweep.runner import mean_score
from fewstep.sweep.space import Change, Choice, Range, Space, Value
from fewstep.sweep.store import Sweep, Trial

JOURNAL = "journal.log"
NAME = "sweep"
OVER = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)
FEW = 4
"""Trials below which the importance of a field says nothing."""


class Held(JournalFileSymlinkLock):
    """The journal's own lock: ours is held already, and its own would outlive a killed worker."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing."""


def distributions(space: Space) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for key, own in space.items():
        match own:
            case Range(whole=True):
                found[key] = IntDistribution(int(own.low), int(own.high), log=own.log)
            case Range():
                found[key] = FloatDistribution(own.low, own.high, log=own.log)
            case Choice():
                found[key] = CategoricalDistribution(own.values)
    return found


def study_of(sweep: Sweep, number: int) -> optuna.Study:
    """The study, with the sampler of this trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = seed_of("sweep", sweep.plan.base.seed, number) % 2**32
    direction = "minimize" if sweep.plan.better == "lower" else "maximize"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # what others still run counts as bad, so that workers keep apart
        sampler = TPESampler(seed=seed, constant_liar=True)
        journal = sweep.directory / JOURNAL
        jsonl.repair(journal)  # a power cut may have left half a line
        storage = JournalStorage(JournalFileBackend(str(journal), Held(str(journal))))
        return optuna.create_study(
            storage=storage, sampler=sampler, study_name=NAME, direction=direction,
            load_if_exists=True,
        )  # fmt: skip


def next_change(sweep: Sweep, trials: Sequence[Trial]) -> Change:
    """Of trial len(trials): none of the first one, which is the recipe."""
    number = len(trials)
    study = study_of(sweep, number)
    tell(study, sweep, trials)
    if len(study.trials) == number:
        if number == 0:
            study.add_trial(recipe_trial(sweep))
        else:
            study.ask()
    # a worker may have died between the journal and the folder, which then gets what was asked
    return {} if number == 0 else suggested(study, number, sweep.plan.space)


def suggested(study: optuna.Study, number: int, space: Space) -> Change:
    """The values of a trial of the journal, those that it has already and those that it lacks."""
    trial = optuna.trial.Trial(study, study.trials[number]._trial_id)
    found: dict[str, Value] = {}
    for key, own in space.items():
        match own:
            case Range(whole=True):
                found[key] = trial.suggest_int(key, int(own.low), int(own.high), log=own.log)
            case Range():
                found[key] = trial.suggest_float(key, own.low, own.high, log=own.log)
            case Choice():
                found[key] = trial.suggest_categorical(key, own.values)
    return found


def recipe_trial(sweep: Sweep) -> optuna.trial.FrozenTrial:
    """Its values where they lie in the space, as one of which the sampler then learns."""
    values = flat(to_dict(sweep.plan.base))
    space = sweep.plan.space
    inside = all(own.holds(values[key]) for key, own in space.items())
    params = {key: values[key] for key in space} if inside else {}
    known = distributions(space) if inside else {}
    return create_trial(state=TrialState.RUNNING, params=params, distributions=known)


def tell(study: optuna.Study, sweep: Sweep, trials: Sequence[Trial]) -> None:
    """What has ended since. A trial that was given up is told by the seeds that it has had: they
    are real scores."""
    there = study.trials
    for trial in trials:
        if trial.result is None or trial.number >= len(there):
            continue
        if there[trial.number].state in OVER:
            continue
        if trial.result.seeds and trial.result.state in ("complete", "pruned"):
            study.tell(trial.number, mean_score(sweep, trial))
        else:
            study.tell(trial.number, state=TrialState.FAIL)


def importance(sweep: Sweep, trials: Sequence[Trial]) -> Mapping[str, float]:
    """Share of each field in what makes the best tenth of trials differ from the others (PED-ANOVA,
    Watanabe et al. 2023, arXiv:2304.10255); empty where there are too few trials."""
    known: Any = distributions(sweep.plan.space)
    scored = [t for t in trials if t.result and t.result.seeds and t.change]
    if len(scored) < FEW:
        return {}
    study = optuna.create_study(
        direction="minimize" if sweep.plan.better == "lower" else "maximize"
    )
    for trial in scored:
        study.add_trial(create_trial(
            params=dict(trial.change), distributions=known, value=mean_score(sweep, trial),
        ))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
