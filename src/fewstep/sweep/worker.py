"""The loop of one worker: take up what was left, begin what is new, then run the first afresh.

Any number of workers run this on one folder. A worker that has nothing to begin waits for trials
that others still run, for one of them may die; whoever comes to the end first runs the top trials
with new seeds, and others help with those that nobody works on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from fewstep.data.cache import alone
from fewstep.runs import Run
from fewstep.sweep.decide import before
from fewstep.sweep.runner import Means, mean_score, run_seed, run_trial
from fewstep.sweep.sampler import next_change
from fewstep.sweep.store import (
    Sweep,
    Trial,
    begin_trial,
    is_running,
    lock,
    read_scored,
    read_trial,
    trials_of,
)

POLL = 1.0
"""Seconds between two looks at what others do."""
Clock = Callable[[], float]


def work(
    sweep: Sweep, means: Means, after: Callable[[], None], *, until: float | None = None,
    clock: Clock = time.monotonic,
) -> bool:  # fmt: skip
    """Run trials until there are as many as planned, or `until` is over; then the top ones afresh.

    `after` is called after each trial. False where others still run trials when time is over, who
    will do the rest.
    """
    while True:
        late = until is not None and clock() >= until
        taken = take(sweep, begin=not late)
        if taken is not None:
            trial, held = taken
            with closing(held):
                run_trial(sweep, trial, means)
            after()
            continue
        left = [trial for trial in trials_of(sweep) if trial.result is None]
        if not left:
            break
        if late and all(is_running(trial) for trial in left):
            return False
        time.sleep(POLL)
    run_fresh(sweep, means)
    return True


def take(sweep: Sweep, *, begin: bool = True) -> tuple[Trial, Run] | None:
    """A trial that has lost its worker, else a new one where there is to be one, and its lock."""
    with alone(sweep.directory):
        trials = trials_of(sweep)
        if (found := orphan(trials)) is not None:
            return found
        if not begin or len(trials) >= sweep.plan.trials:
            return None
        return begin_trial(sweep, len(trials), next_change(sweep, trials))


def orphan(trials: Sequence[Trial]) -> tuple[Trial, Run] | None:
    """The first trial that is not over and that nobody works on, with its lock."""
    for trial in trials:
        if trial.result is None and (held := lock(trial)) is not None:
            # it may have ended between reading and locking
            if (found := read_trial(trial.directory)).result is None:
                return found, held
            held.close()
    return None


def ranking(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Complete trials, best mean score first; of equal ones the earlier."""
    complete = [t for t in trials if t.result is not None and t.result.state == "complete"]
    sign = 1 if before(0, 1, sweep.plan.better) else -1
    return sorted(complete, key=lambda t: (sign * mean_score(sweep, t), t.number))


def finalists(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """The recipe, and the first of the others."""
    ranked = ranking(sweep, trials)
    others = [trial for trial in ranked if trial.number != 0][: sweep.plan.top]
    return [trial for trial in ranked if trial.number == 0] + others


def run_fresh(sweep: Sweep, means: Means) -> None:
    """Each finalist on seeds that it was not chosen on; whoever helps takes the next one."""
    left = finalists(sweep, trials_of(sweep))
    while left:
        for trial in list(left):
            if (held := lock(trial)) is None:
                continue
            with closing(held):
                for seed in sweep.plan.fresh_seeds:
                    run_seed(sweep, trial, seed, means)
            left.remove(trial)
        if left:
            time.sleep(POLL)


def fresh_seeds(sweep: Sweep, trial: Trial) -> tuple[int, ...]:
    """The new seeds that were scored."""
    found = [read_scored(trial, seed) for seed in sweep.plan.fresh_seeds]
    return tuple(one.seed for one in found if one is not None and not one.failed)


def paired_seeds(sweep: Sweep, one: Trial, two: Trial) -> tuple[int, ...]:
    """The new seeds that both were scored on."""
    theirs = fresh_seeds(sweep, two)
    return tuple(seed for seed in fresh_seeds(sweep, one) if seed in theirs)
