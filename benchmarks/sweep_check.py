"""Whether the workers of a sweep have lost a trial or run one twice: their logs and folders."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from fewstep.runs import read_metrics
from fewstep.sweep.sampler import study_of
from fewstep.sweep.store import Sweep, run_of, trials_of

BEGUN = re.compile(r"^trial (\d+), training seed (\d+)$", re.MULTILINE)
Runs = list[tuple[int, int]]
"""Trial and training seed, as they were begun."""


def log_lines(logs: Path) -> list[Runs]:
    """What each worker has begun, a list for every time that one was started."""
    return [
        [(int(n), int(seed)) for n, seed in BEGUN.findall(path.read_text(errors="replace"))]
        for path in sorted(logs.glob("*.log"))
    ]


def twice(sessions: list[Runs]) -> Runs:
    """Runs that were begun again though they were not cut short: those that were are the last that
    their worker has begun."""
    begun = Counter(run for session in sessions for run in session)
    cut = Counter(session[-1] for session in sessions if session)
    return sorted(run for run, n in begun.items() if n - 1 > cut[run])


def problems(sweep: Sweep, logs: Path) -> list[str]:
    """In words; none where all is well."""
    trials, found = trials_of(sweep), list[str]()
    numbers = [trial.number for trial in trials]
    if numbers != list(range(sweep.plan.trials)):
        found.append(f"the trials are {numbers}")
    if lost := [t.number for t in trials if t.result is None]:
        found.append(f"the trials {lost} have no end")
    if len(study_of(sweep, 0).trials) != len(trials):
        found.append("journal and folder do not have the same trials")
    if again := twice(log_lines(logs)):
        found.append(f"begun twice: {again}")
    for trial in trials:
        for seed in trial.result.seeds if trial.result else ():
            steps = [r["step"] for r in read_metrics(run_of(trial, seed)) if r["phase"] == "loop"]
            if any(a >= b for a, b in pairwise(steps)):
                found.append(f"trial {trial.number}, seed {seed} has steps twice")
    return found
