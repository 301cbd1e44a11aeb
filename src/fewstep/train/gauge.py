"""The retention gauge: looks at the student on the way, keeps the best, goes back on a collapse.

RUN/retention.jsonl      a row for each look
RUN/retention.json       what the rule has made of them, for whoever reads without the rule
RUN/checkpoints/best     the checkpoint of the best row so far (`train.retention` has the rule)

A look comes after the checkpoint of its step and decides by the rows alone, so a run that resumes
does the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from fewstep.jsonl import no_nan
from fewstep.runs import Run, RunError, write_atomic
from fewstep.train.aside import BEST, go_back, set_aside, set_rates, take
from fewstep.train.optim import Optim
from fewstep.train.retention import (
    RetentionConfig,
    Row,
    best,
    collapses,
    decided,
    reason_to_stop,
    returns,
)

RECORD = "retention.jsonl"
DECISIONS = "retention.json"


class Gauge:
    """What the loop asks between steps, over one run.

    measure    the row of a step, of the weights as they are; it must leave them alone
    last_step  of the run, where there is a look in any case
    """

    def __init__(
        self, cfg: RetentionConfig, measure: Callable[[int], Row], modules: Mapping[str, nn.Module],
        optims: Mapping[str, Optim], *, last_step: int,
    ) -> None:  # fmt: skip
        if cfg.every < 1:
            raise ValueError(f"a gauge must look every n >= 1 steps, got {cfg.every}")
        self.cfg, self.measure, self.last_step = cfg, measure, last_step
        self.modules, self.optims = modules, optims
        self.rates = {name: optim.cfg.lr for name, optim in optims.items()}
        self.rows: list[Row] = []

    def due(self, step: int) -> bool:
        return step % self.cfg.every == 0 or step == self.last_step

    def begin(self, run: Run, step: int) -> None:
        """Take the rows of the run up to this step, from which it goes on."""
        path = run.directory / RECORD
        there = read_rows(path)
        self.rows = [row for row in there if row.step <= step]
        if there:
            self.write(run)  # both files, or a run killed between them would leave them apart
        self.slow()

    def look(self, run: Run, step: int) -> str | None:
        """Measure, keep, go back; why the run should stop, None if it should go on.

        The checkpoint of the step must lie there. RunError where the best does not, or not whole.
        """
        if not self.rows or self.rows[-1].step != step:
            self.rows.append(self.measure(step))
            self.write(run)
        if best(self.rows, self.cfg).step == step:
            set_aside(run.checkpoints, step, BEST)
        if returns(self.rows, self.cfg, self.last_step):
            kept = best(self.rows, self.cfg)
            go_back(run.checkpoints / BEST, kept.step, self.modules, self.optims)
            self.slow()
        return reason_to_stop(self.rows, self.cfg)

    def take_best(self, run: Run) -> Row:
        """Load the best checkpoint into modules and optimizers; its row."""
        kept = best(self.rows, self.cfg)
        take(run.checkpoints / BEST, kept.step, self.modules, self.optims)
        return kept

    def slow(self) -> None:
        """The learning rates after the collapses so far."""
        set_rates(self.optims, self.rates, self.cfg.slower ** collapses(self.rows, self.cfg))

    def write(self, run: Run) -> None:
        lines = [json.dumps(no_nan(asdict(row)), allow_nan=False) + "\n" for row in self.rows]
        write_atomic(run.directory / RECORD, "".join(lines).encode())
        decisions = run.directory / DECISIONS
        if not self.rows:
            decisions.unlink(missing_ok=True)
            return
        found = decided(self.rows, self.cfg, self.last_step)
        write_atomic(decisions, json.dumps(found, indent=1, allow_nan=False).encode() + b"\n")


def read_rows(path: Path) -> list[Row]:
    """The rows of a record, oldest first; none where there is no file. RunError names a bad one."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return [row_of(json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is not a record of looks ({error}); bring it back") from None


def row_of(found: Mapping[str, Any]) -> Row:
    """A row as it was written: a null score is one that was not finite."""
    scores = {key: math.nan for key in ("concept", "loss") if found.get(key, 0) is None}
    return Row(**{**found, **scores})
