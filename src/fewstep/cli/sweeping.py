"""`fewstep sweep`: many short runs of a recipe, and which change of it is better for certain."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from fewstep.cli import INTERRUPTED, commands
from fewstep.cli.examining import SWITCH
from fewstep.cli.sampling import telling
from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.report.numbers import duration
from fewstep.sweep.plan import FILE, Plan, ScoreName, check_same
from fewstep.sweep.propose import propose
from fewstep.sweep.result import RECORD, write_result
from fewstep.sweep.runner import Means
from fewstep.sweep.score import see, yardstick
from fewstep.sweep.space import read_space
from fewstep.sweep.space import written as spelled
from fewstep.sweep.store import Sweep, Trial, open_sweep, read_scored, trials_of
from fewstep.sweep.worker import work

PAGE = "sweep.html"


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What `sweep` takes beside the fields of the experiment."""

    vary: tuple[str, ...] = ()
    """FIELD=LOW..HIGH, FIELD=LOW..HIGH:log or FIELD=A,B,... for fields of the experiment."""
    propose: str | None = None
    """Instead of the sampler a command that is run by the shell, reads the history as JSON and
    writes the next change (docs/sweep.md)."""
    trials: int = 20
    """With the recipe itself, which is trial 0."""
    seeds: int = 2
    """Training seeds of each."""
    steps: int | None = None
    """loop.steps of every trial; none is what the recipe says."""
    minutes: float | None = None
    """After so many this worker begins no new trial; what is left of the end is run on top."""
    score: ScoreName = "kid"
    """What is swept for: KID to the truth, or the teacher's pictures; or the share of pictures
    with everything that was asked."""
    prompts: int = 64
    """Of validation, that every student draws."""
    pictures: int = 2
    """Of each prompt."""
    extractor: str | None = None
    """Of the features of KID, as in `eval`; none is the world's own."""
    top: int = 3
    """The first so many are run again at the end, beside the recipe."""
    fresh: int = 5
    """On so many new training seeds."""
    lean: tyro.conf.FlagCreatePairsOff[bool] = False
    """Runs that are scored give up their checkpoints and their model, which take room."""
    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    out: Path | None = None
    """The sweep's folder; none is runs/sweep/NAME. The same command in another shell, or on
    another machine that sees it, is another worker; after a stop it goes on."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Say what would be run, and run nothing."""


@dataclass(frozen=True, kw_only=True)
class SweepHelp(SweepRequest):
    """The same with every field of an experiment."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def sweep(
    request: SweepRequest, experiment: Experiment, label: str, command: str, console: Console
) -> int:
    """Work until the sweep is over, and write its record and its page."""
    plan, out = plan_of(request, experiment, label), request.out or Path("runs/sweep") / label
    if request.dry_run:
        return describe(plan, out, console)
    until = None if request.minutes is None else time.monotonic() + 60 * request.minutes
    with alone(out):
        found = open_sweep(out, plan)
    console.print(f"sweep {out}: {plan.trials} trials, at most {plan.runs} runs of "
                  f"{plan.base.loop.steps} steps")  # fmt: skip
    means = replace(means_of(found, command, console), lean=request.lean)

    def after() -> None:
        written(found, command)

    loop = work if plan.propose is None else propose
    if not loop(found, means, after, until=until):
        console.print("time is over, and other workers still run trials: they will end the sweep")
        return 0
    facts = written(found, command)
    console.print(facts["verdict"])
    console.print(f"wrote {out / RECORD}, {out / PAGE} and {out / 'best.yaml'}")
    return 0


def means_of(found: Sweep, command: str, console: Console) -> Means:
    """What a worker of this sweep runs trials with."""
    with telling("pictures", console) as told:
        stick = yardstick(found.plan, found.directory, told)

    def train(own: Experiment, run: Path) -> bool:
        with quiet_doctor(first=run == found.trials / "0000" / f"seed_{found.plan.base.seed}"):
            code = commands.train(own, run, command, console)
        return code != INTERRUPTED

    def seen(own: Experiment, run: Path) -> Mapping[str, np.ndarray]:
        with telling("pictures", console) as told:
            return see(stick, own, run, told)

    return Means(train=train, see=seen, say=console.print)


def written(found: Sweep, command: str) -> dict:
    """Record and page as they stand."""
    from fewstep.report.sweep import write_page  # matplotlib takes a second to import

    with alone(found.directory):
        facts = write_result(found, command)
        write_page(facts, found.directory / PAGE)
    return facts


def plan_of(request: SweepRequest, experiment: Experiment, label: str) -> Plan:
    if request.steps is not None:
        if request.steps < 1:
            raise UserError(f"--steps must be >= 1, got {request.steps}")
        if any(word.startswith("loop.steps=") for word in request.vary):
            raise UserError("--steps and --vary loop.steps=... both say how long a trial is")
        experiment = replace(experiment, loop=replace(experiment.loop, steps=request.steps))
    if request.minutes is not None and not request.minutes > 0:
        raise UserError(f"--minutes must be > 0, got {request.minutes:g}")
    return Plan(
        recipe=label, base=experiment, space=read_space(request.vary, experiment),
        trials=request.trials, seeds=request.seeds, top=request.top, fresh=request.fresh,
        score=request.score, prompts=request.prompts, pictures=request.pictures,
        extractor=request.extractor, propose=request.propose,
    )  # fmt: skip


def describe(plan: Plan, out: Path, console: Console) -> int:
    """--dry-run."""
    console.print(f"recipe {plan.recipe}, {plan.base.loop.steps} steps a run, score "
                  f"{plan.score_key} ({plan.better} is better)")  # fmt: skip
    for key, own in plan.space.items():
        console.print(f"vary {key}: {spelled(own)}")
    if plan.propose is not None:
        console.print(f"changes come from: {plan.propose}")
    last = plan.runs - plan.trials * plan.seeds
    console.print(f"{plan.trials} trials x {plan.seeds} training seeds, then {last} runs with "
                  f"{plan.fresh} new seeds: at most {plan.runs} runs")  # fmt: skip
    steps, pictures = plan.runs * plan.base.loop.steps, plan.runs * plan.prompts * plan.pictures
    console.print(f"at most {steps} steps and {pictures} pictures")
    if (out / FILE).exists():
        check_same(out, plan)
        ended = [t for t in trials_of(Sweep(out, plan)) if t.result is not None]
        console.print(f"would go on with {out}, where {len(ended)} trials have ended")
        if (seconds := seconds_of(ended)) is not None:
            console.print(f"a run trains for {duration(seconds)} so far; all of them would take "
                          f"{duration(seconds * plan.runs)} of one worker")  # fmt: skip
    else:
        console.print(f"would start a sweep in {out}")
    console.print("`fewstep plan` says what one of the runs takes")
    return 0


def seconds_of(trials: Sequence[Trial]) -> float | None:
    """Of training in a run that has ended; None where there is none."""
    seeds = [(t, seed) for t in trials if t.result is not None for seed in t.result.seeds]
    found = [one.seconds for t, seed in seeds if (one := read_scored(t, seed)) is not None]
    return sum(found) / len(found) if found else None


@contextmanager
def quiet_doctor(*, first: bool) -> Iterator[None]:
    """The doctor looks at the recipe's first run, and not at each of its many likenesses."""
    before = os.environ.get(SWITCH)
    if not first:
        os.environ[SWITCH] = "off"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SWITCH, None)
        else:
            os.environ[SWITCH] = before
