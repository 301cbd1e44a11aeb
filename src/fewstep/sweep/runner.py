"""One trial: its training seeds one after the other, given up early where it is clearly worse."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fewstep.errors import UserError
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import Experiment
from fewstep.runs import RunError, read_metrics
from fewstep.sweep.decide import before, difference, is_better, is_worse
from fewstep.sweep.score import training_seconds
from fewstep.sweep.store import (
    Result,
    Scored,
    Sweep,
    Trial,
    draws_of,
    end_trial,
    experiment_of,
    read_scored,
    run_of,
    trials_of,
    write_scored,
)
from fewstep.train.loop import NotFiniteError

Train = Callable[[Experiment, Path], bool]
"""Train to the end and export, as `fewstep train` does; False where it was interrupted, which the
same call goes on from."""
See = Callable[[Experiment, Path], Mapping[str, np.ndarray]]
"""(1 + replicates,) by metric of what a run has exported, on the prompts, sampling seeds and
resamples that all trials share."""
Say = Callable[[str], None]
HEAVY = ("checkpoints", "model")
"""What takes the room of a run."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a worker runs trials with."""

    train: Train
    see: See
    say: Say
    lean: bool = False
    """Whether a run that is scored gives its checkpoints and its model up."""


def run_trial(sweep: Sweep, trial: Trial, means: Means) -> Trial:
    """Under the lock of the trial. What is scored already is not run again. KeyboardInterrupt where
    training was interrupted; a recipe that cannot be run is the user's mistake, and raised."""
    if trial.result is not None:  # ended since it was looked at
        return trial
    if (twin := twin_of(sweep, trial)) is not None:
        why = f"the same configuration as trial {twin.number}"
        return ended(trial, Result(state="repeated", why=why), means)
    done: list[int] = []
    for seed in sweep.plan.training_seeds:
        scored = run_seed(sweep, trial, seed, means)
        if scored.failed:
            why = f"seed {seed}: {scored.why}"
            return ended(trial, Result(state="failed", why=why, seeds=tuple(done)), means)
        done.append(seed)
        more = len(done) < sweep.plan.seeds
        if more and (why := given_up(sweep, trial, tuple(done))):
            return ended(trial, Result(state="pruned", why=why, seeds=tuple(done)), means)
    kept, why = None, ""
    if trial.parent is not None:
        kept, why = judged(sweep, trial, tuple(done))
    result = Result(state="complete", why=why, seeds=tuple(done), kept=kept)
    return ended(trial, result, means)


def ended(trial: Trial, result: Result, means: Means) -> Trial:
    means.say(f"trial {trial.number} {result.state}{': ' + result.why if result.why else ''}")
    return end_trial(trial, result)


def run_seed(sweep: Sweep, trial: Trial, seed: int, means: Means) -> Scored:
    """Train, draw and measure, or what was found when that was done; under the trial's lock."""
    if (found := read_scored(trial, seed)) is not None:
        return found
    run = run_of(trial, seed)
    try:
        experiment = experiment_of(sweep, trial, seed)
        means.say(f"trial {trial.number}, training seed {seed}")
        if not means.train(experiment, run):
            raise KeyboardInterrupt
        draws = means.see(experiment, run)
        seconds = training_seconds(read_metrics(run))
        scored = Scored(seed=seed, draws=draws, seconds=round(seconds, 3))
    except RunError:  # a full disk, a directory in use: nothing of the trial
        raise
    except (UserError, NotFiniteError, torch.OutOfMemoryError) as error:
        why = " ".join(str(error).split())
        if trial.number == 0 and seed in sweep.plan.training_seeds:  # and nothing is recorded
            raise UserError(f"the recipe itself cannot be swept: {why}") from None
        scored = Scored(seed=seed, draws={}, why=why)
    write_scored(trial, scored)
    if means.lean:
        for name in HEAVY:
            shutil.rmtree(run / name, ignore_errors=True)
    return scored


def twin_of(sweep: Sweep, trial: Trial) -> Trial | None:
    """An earlier trial of the same configuration: running it again would tell nothing."""
    own = text_of(sweep, trial)
    earlier = trials_of(sweep)[: trial.number]
    ran = [t for t in earlier if t.result is None or t.result.state not in ("repeated", "refused")]
    return next((t for t in ran if own is not None and text_of(sweep, t) == own), None)


def text_of(sweep: Sweep, trial: Trial) -> str | None:
    """The whole configuration; None where it is refused."""
    try:
        return to_yaml(experiment_of(sweep, trial, sweep.plan.base.seed))
    except UserError:
        return None


def best_of(sweep: Sweep, trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the best mean score over its seeds."""
    best: tuple[float, Trial] | None = None
    for trial in trials:
        if trial.result is not None and trial.result.state == "complete":
            own = mean_score(sweep, trial)
            if best is None or before(own, best[0], sweep.plan.better):
                best = own, trial
    return None if best is None else best[1]


def mean_score(sweep: Sweep, trial: Trial) -> float:
    """Over the training seeds of an ended trial that were scored."""
    assert trial.result is not None
    return float(draws_of(trial, trial.result.seeds, sweep.plan.score_key)[:, 0].mean())


def rival_of(sweep: Sweep, trial: Trial) -> Trial | None:
    """What a trial must not be worse than: what it was proposed on, or the best so far."""
    others = trials_of(sweep)
    if trial.parent is not None:
        return others[trial.parent]
    return best_of(sweep, others)


def given_up(sweep: Sweep, trial: Trial, seeds: tuple[int, ...]) -> str:
    """Why the rest of the seeds is not worth running; "" where it is, and of the recipe, which all
    are held against in the end."""
    if trial.number == 0 or (rival := rival_of(sweep, trial)) is None:
        return ""
    plan = sweep.plan
    own, other = (draws_of(t, seeds, plan.score_key) for t in (trial, rival))
    gain = difference(own, other, plan.prompts, plan.pictures, share=plan.share)
    if not is_worse(gain, plan.better):
        return ""
    return (f"worse than trial {rival.number} by {abs(gain.value):.3g} on the same seed "
            f"({gain.low:.3g} to {gain.high:.3g})")  # fmt: skip


def judged(sweep: Sweep, trial: Trial, seeds: tuple[int, ...]) -> tuple[bool, str]:
    """Whether a proposed change stays, and why."""
    plan = sweep.plan
    rival = rival_of(sweep, trial)
    assert rival is not None  # it is the parent
    own, other = (draws_of(t, seeds, plan.score_key) for t in (trial, rival))
    gain = difference(own, other, plan.prompts, plan.pictures, share=plan.share)
    kept = is_better(gain, plan.better)
    word = "better" if kept else "worse" if is_worse(gain, plan.better) else "no better for certain"
    return kept, (
        f"{word} than trial {rival.number}: {plan.score_key} {gain.value:+.3g} ({gain.low:+.3g} to "
        f"{gain.high:+.3g}) on {len(seeds)} training seeds"
    )
