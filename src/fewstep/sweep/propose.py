"""Keep or revert: a command reads what was tried and says what to change next.

It is run by the shell with the history as JSON on standard input:

    {"recipe": str, "score": {"name", "better"}, "space": {key: text}, "base": {the configuration},
     "best": {"number", "change", "score"},
     "trials": [{"number", "change", "on", "seeds", "score", "low", "high", "kept", "why"}]}

and answers on standard output

    {"change": {"dotted.key": value}}      on top of the best so far, or
    {"stop": true}

An answer that cannot be run is a trial like any other, refused, and the reason is told next time.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.evaluate.folder import held
from fewstep.experiment.codec import changed, to_dict
from fewstep.sweep.decide import level
from fewstep.sweep.runner import Means, run_trial, twin_of
from fewstep.sweep.space import Change, check_key, written
from fewstep.sweep.store import (
    Result,
    Sweep,
    Trial,
    begin_trial,
    draws_of,
    end_trial,
    new_trial,
    trials_of,
)
from fewstep.sweep.worker import orphan, run_fresh

PATIENCE = 600.0
"""Seconds that an answer may take."""
BAD = 5
"""Answers in a row that cannot be run, after which nobody asks again."""


class BadAnswerError(Exception):
    """What was wrong with it; `change` is what was asked for, where that could be read."""

    def __init__(self, why: str, change: Mapping[str, Any] | None = None) -> None:
        super().__init__(why)
        self.change = dict(change or {})


def propose(
    sweep: Sweep, means: Means, after: Callable[[], None], *, until: float | None = None,
    patience: float = PATIENCE,
) -> bool:  # fmt: skip
    """Ask and run until there are as many trials as planned, time is over, or the command stops;
    then the best afresh. RunError where another worker proposes here, UserError after too many bad
    answers, which leaves what was found."""
    with held(sweep.directory / "proposer"):
        bad = 0
        while True:
            with alone(sweep.directory):
                trials = trials_of(sweep)
                taken = orphan(trials)
                if taken is None and not trials:
                    taken = begin_trial(sweep, 0, {})
            if taken is not None:
                trial, mine = taken
                with closing(mine):
                    run_trial(sweep, trial, means)
                after()
                continue
            if is_over(sweep, trials, until):
                break
            try:
                answer = ask(sweep, trials, patience)
                if answer is None:
                    means.say("the command has nothing more to propose")
                    break
                add(sweep, trials, answer)
                bad = 0
            except BadAnswerError as error:
                refuse(sweep, trials, error)
                means.say(f"answer refused: {error}")
                after()
                bad += 1
                if bad == BAD:
                    raise UserError(
                        f"{BAD} answers of --propose in a row could not be run, the last one: "
                        f"{error}; repair the command and run the same again"
                    ) from None
        run_fresh(sweep, means)
    return True


def is_over(sweep: Sweep, trials: Sequence[Trial], until: float | None) -> bool:
    """Refused answers cost nothing and are not counted."""
    ran = [t for t in trials if t.result is None or t.result.state != "refused"]
    late = until is not None and time.monotonic() >= until
    return late or len(ran) >= sweep.plan.trials


def ask(sweep: Sweep, trials: Sequence[Trial], patience: float = PATIENCE) -> Change | None:
    """The proposed change; None where the command wants to stop. BadAnswerError otherwise."""
    assert sweep.plan.propose is not None
    text = json.dumps(history(sweep, trials), allow_nan=False)
    said = answer_of(sweep.plan.propose, text, patience)
    try:
        found = json.loads(said, parse_constant=no_number)
    except ValueError:
        raise BadAnswerError(f"it is not JSON: {said.strip()[:80]!r}") from None
    if not isinstance(found, dict) or not found.keys() <= {"change", "stop"}:
        raise BadAnswerError(f'it must read {{"change": {{...}}}}, got {said.strip()[:80]!r}')
    if found.get("stop") is True:
        return None
    change = found.get("change")
    if not isinstance(change, dict) or not change:
        raise BadAnswerError(f"its change must be a mapping of fields to values, got {change!r}")
    if large := [key for key, value in change.items() if value in (math.inf, -math.inf)]:
        raise BadAnswerError(f"the value of {large[0]} is too large for a number")
    return change


def no_number(word: str) -> float:
    """NaN and infinities, which Python reads and JSON has not."""
    raise ValueError(f"{word} is no number")


def answer_of(command: str, text: str, patience: float) -> str:
    """Standard output of the command, which ends with all that it has started."""
    process = subprocess.Popen(
        command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, errors = process.communicate(text, timeout=patience)
    except subprocess.TimeoutExpired:
        raise BadAnswerError(f"there was none in {patience:g} seconds") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        last = (errors.strip().splitlines() or ["nothing on standard error"])[-1]
        raise BadAnswerError(f"the command ended with {process.returncode}: {last[:200]}")
    return said


def add(sweep: Sweep, trials: Sequence[Trial], proposed: Change) -> Trial:
    """A new trial, on top of the best so far. BadAnswerError for what cannot be run or was."""
    best = best_so_far(trials)
    change = {**best.change, **proposed}
    try:
        for key in proposed:
            check_key(key, sweep.plan.base)
        changed(sweep.plan.base, change)
    except UserError as error:
        why = str(error).removeprefix("--vary: ").removeprefix("the overrides: ")
        raise BadAnswerError(why, proposed) from None
    draft = Trial(number=len(trials), directory=sweep.trials / "none", change=change)
    if (twin := twin_of(sweep, draft)) is not None:
        raise BadAnswerError(f"that was tried as trial {twin.number}", proposed)
    with alone(sweep.directory):
        return new_trial(sweep, len(trials), change, proposed, best.number)


def refuse(sweep: Sweep, trials: Sequence[Trial], error: BadAnswerError) -> None:
    """Record it. What cannot be written as JSON was never read from it."""
    with alone(sweep.directory):
        number = len(trials)
        trial = new_trial(sweep, number, {}, error.change, best_so_far(trials).number)
        end_trial(trial, Result(state="refused", why=str(error), kept=False))


def best_so_far(trials: Sequence[Trial]) -> Trial:
    """The last change that was kept, else the recipe."""
    kept = [t for t in trials if t.result is not None and t.result.kept]
    return kept[-1] if kept else trials[0]


def history(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """What the command is told."""
    plan, best = sweep.plan, best_so_far(trials)
    rows = [row_of(sweep, trial) for trial in trials if trial.result is not None]
    return {
        "recipe": plan.recipe, "score": {"name": plan.score_key, "better": plan.better},
        "space": {key: written(own) for key, own in plan.space.items()},
        "base": to_dict(plan.base),
        "best": {"number": best.number, "change": dict(best.change),
                 "score": next(row["score"] for row in rows if row["number"] == best.number)},
        "trials": rows,
    }  # fmt: skip


def row_of(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    assert trial.result is not None
    plan, result = sweep.plan, trial.result
    found: dict[str, Any] = dict.fromkeys(("score", "low", "high"))
    if result.seeds:
        draws = draws_of(trial, result.seeds, plan.score_key)
        own = level(draws, plan.prompts, plan.pictures, share=plan.share)
        numbers = own.to_json()
        found = {"score": numbers["value"], "low": numbers["low"], "high": numbers["high"]}
    change = trial.proposed if trial.parent is not None else trial.change
    return {
        "number": trial.number, "change": dict(change), "on": trial.parent,
        "seeds": list(result.seeds), **found, "kept": result.kept, "why": result.why,
    }  # fmt: skip
