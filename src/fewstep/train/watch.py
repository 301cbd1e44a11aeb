"""The watch over a run: looks at it on the way, raises alarms, goes back where it should.

RUN/health.jsonl              a row for each look
RUN/health.json               what the rule (`train.alarms`) has made of them, with its bands
RUN/evidence/step_00000300/   pictures and rows of an alarm's step
RUN/checkpoints/healthy_*     what the run may go back to, where a policy asks for that

A look comes after the rows, pictures and checkpoint of its step. Going back leaves the count of
steps as it is, as a gauge does (`train.gauge`).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from fewstep.jsonl import no_nan
from fewstep.runs import Follower, Run, RunError, write_atomic
from fewstep.train.alarms import ACTIONS, Course, WatchConfig, course, told
from fewstep.train.aside import HEALTHY, go_back, healthy_name, set_aside, set_rates
from fewstep.train.commit import by_age, name_of, step_of
from fewstep.train.optim import Optim
from fewstep.train.ranks import ALONE, Ranks
from fewstep.train.signs import Look
from fewstep.train.stretch import Stretch

RECORD, COURSE, EVIDENCE = "health.jsonl", "health.json", "evidence"


class Probe(Protocol):
    """What a run draws and measures of itself; it must leave weights alone."""

    def __call__(self, step: int) -> Mapping[str, float]:
        """Signs of weights and pictures (`signs.SIGNS`)."""
        ...

    def follow(self, step: int) -> None:
        """What other processes do meanwhile, where weights are sharded."""
        ...

    def beside(self) -> Mapping[str, float]:
        """Signs of pictures that the student should come to, as far as there are any."""
        ...

    def show(self, folder: Path) -> None:
        """Write the pictures of the last call."""
        ...


class Watch:
    """What the loop asks between steps, over one run; in every process of several.

    steps             of the run, at whose end there is a look in any case
    checkpoint_every  so many of them
    """

    def __init__(
        self, cfg: WatchConfig, probe: Probe, *, steps: int, checkpoint_every: int
    ) -> None:
        if cfg.every < 1:
            raise ValueError(f"a watch must look every n >= 1 steps, got {cfg.every}")
        self.cfg, self.probe = cfg, probe
        self.steps, self.checkpoint_every = steps, checkpoint_every
        self.modules: Mapping[str, nn.Module] = {}
        self.optims: Mapping[str, Optim] = {}
        self.rates: dict[str, float] = {}
        self.looks: list[Look] = []
        self.stretch = Stretch()

    @property
    def course(self) -> Course:
        return course(
            self.looks, self.cfg, steps=self.steps, checkpoint_every=self.checkpoint_every
        )

    def due(self, step: int) -> bool:
        return step % self.cfg.every == 0 or step == self.steps

    def begin(
        self, run: Run | Follower, step: int, modules: Mapping[str, nn.Module],
        optims: Mapping[str, Optim], ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        """Take the looks of the run up to this step, from which it goes on; `modules` and `optims`
        are what a checkpoint fills."""
        self.modules, self.optims = modules, optims
        self.rates = {name: optim.cfg.lr for name, optim in optims.items()}
        own: list[dict[str, Any]] = []
        if isinstance(run, Run):
            own = [row for row in read_looks(run.directory) if row["step"] <= step]
            last = own[-1]["step"] if own else 0
            self.stretch = Stretch.of(run.metrics(), last)
            run.watchers.append(lambda row: self.stretch.hear(row))
        self.looks = [look_of(row) for row in ranks.all_facts(own)[0]]
        if isinstance(run, Run):
            self.clear(run, step)
        if self.looks:
            self.slow(self.course)

    def clear(self, run: Run, step: int) -> None:
        """Nothing in the run is of later than this step, from which it goes on."""
        if self.looks:
            self.write(run, self.course)
        else:
            for name in (RECORD, COURSE):
                (run.directory / name).unlink(missing_ok=True)
        for path in run.checkpoints.glob(f".{HEALTHY}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in run.checkpoints.glob(f"{HEALTHY}*"):
            if int(path.name.removeprefix(HEALTHY)) > step:
                shutil.rmtree(path, ignore_errors=True)

    def slow(self, found: Course) -> None:
        """A gauge beside it has rates of its own, where no policy lowers any."""
        if found.rate < 1:
            set_rates(self.optims, self.rates, found.rate)

    def look(
        self, run: Run | Follower, step: int, *, say: Callable[[str], None],
        settle: Callable[[], None], ranks: Ranks = ALONE,
    ) -> str | None:  # fmt: skip
        """Measure, raise alarms, go back; why the run should stop, None if it should go on.

        settle  waits until checkpoints that were begun are written

        RunError where a checkpoint that is needed does not lie there, or not whole.
        """
        if not self.looks or self.looks[-1].step != step:
            self.looks.append(self.measured(step, ranks))
        found = self.course
        if isinstance(run, Run):
            self.record(run, found, say)
        if self.cfg.keeps:
            self.keep(run, found, settle, ranks)
        if found.take is not None:
            path = run.checkpoints / healthy_name(found.take)
            go_back(path, found.take, self.modules, self.optims)
        self.slow(found)
        return found.stop

    def measured(self, step: int, ranks: Ranks) -> Look:
        """What all processes hold for this look: the first one's."""
        values: dict[str, float] = {}
        beside: dict[str, float] = {}
        if ranks.first:
            values = self.stretch.values(step) | dict(self.probe(step))
            beside = {} if self.looks else dict(self.probe.beside())
        elif ranks.sharded:
            self.probe.follow(step)
        row = {"step": step, "values": values, "beside": beside}
        self.stretch = self.stretch.next(step)
        return look_of(ranks.all_facts(no_nan(row))[0])

    def record(self, run: Run, found: Course, say: Callable[[str], None]) -> None:
        """The looks and what was made of them, and of an alarm at the last one what shows it."""
        self.write(run, found)
        alarms = [alarm for alarm in found.alarms if alarm.step == self.looks[-1].step]
        for alarm in alarms:
            say(alarm.line())
        if any(ACTIONS.index(alarm.action) >= ACTIONS.index("evidence") for alarm in alarms):
            folder = run.directory / EVIDENCE / name_of(self.looks[-1].step)
            folder.mkdir(parents=True, exist_ok=True)
            lines = {"alarms": [alarm.line() for alarm in alarms], **row_of(self.looks[-1])}
            write_atomic(folder / "alarms.json", json.dumps(lines, indent=1).encode() + b"\n")
            self.probe.show(folder)

    def write(self, run: Run, found: Course) -> None:
        lines = [json.dumps(row_of(look), allow_nan=False) + "\n" for look in self.looks]
        write_atomic(run.directory / RECORD, "".join(lines).encode())
        text = json.dumps(no_nan(told(self.looks, found)), indent=1, allow_nan=False)
        write_atomic(run.directory / COURSE, text.encode() + b"\n")

    def hold(self, run: Run | Follower, step: int, ranks: Ranks = ALONE) -> None:
        """Before a checkpoint of an interruption takes the place of another: the newest one that a
        look may yet find healthy."""
        newest = step // self.checkpoint_every * self.checkpoint_every
        path = run.checkpoints / name_of(newest)
        if ranks.first and newest < step and path.is_dir():
            set_aside(run.checkpoints, newest, healthy_name(newest))
        ranks.wait()

    def keep(
        self, run: Run | Follower, found: Course, settle: Callable[[], None], ranks: Ranks
    ) -> None:
        """Set aside what the run may go back to and is not there yet, and give up the rest."""
        folder, wanted = run.checkpoints, self.needed(run.checkpoints)
        missing = [step for step in wanted if not (folder / healthy_name(step)).is_dir()]
        if ranks.any(bool(missing)):
            settle()
        if ranks.first:
            for step in missing:
                if (folder / name_of(step)).is_dir():
                    set_aside(folder, step, healthy_name(step))
                elif step == found.take:
                    raise RunError(
                        f"the run goes back to step {step}, but {folder / healthy_name(step)} is "
                        "not there; bring it back, or start the run anew in another directory"
                    )
            for path in folder.glob(f"{HEALTHY}*"):
                if path.name not in map(healthy_name, wanted):
                    shutil.rmtree(path, ignore_errors=True)
        ranks.wait()

    def needed(self, folder: Path) -> list[int]:
        """Steps that this run goes back to or may, and so may one that resumes from any of the
        checkpoints there: it repeats what was decided since."""
        oldest = min(map(step_of, by_age(folder)), default=0)
        found: dict[int, None] = {}
        for n in range(1, len(self.looks) + 1):
            if n == len(self.looks) or self.looks[n].step >= oldest:
                own = course(
                    self.looks[:n], self.cfg, steps=self.steps,
                    checkpoint_every=self.checkpoint_every,
                )  # fmt: skip
                found |= dict.fromkeys(own.healthy)
                found |= {} if own.take is None else {own.take: None}
        return list(found)


def read_looks(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's looks, oldest first; RunError names a bad one."""
    path = directory / RECORD
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            look_of(row)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path} is not a record of looks ({error}); bring it back") from None
    return rows


def look_of(row: Mapping[str, Any]) -> Look:
    """A look as it was written: a null is a number that was not finite."""
    values, beside = (
        {name: math.nan if value is None else float(value) for name, value in row[key].items()}
        for key in ("values", "beside")
    )
    return Look(step=int(row["step"]), values=values, beside=beside)


def row_of(look: Look) -> dict[str, Any]:
    return no_nan({"step": look.step, "values": dict(look.values), "beside": dict(look.beside)})
