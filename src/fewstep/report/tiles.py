"""The few numbers at the top of a run's page: did it work, how sure is it, what did it cost."""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.report.collect import RunRecord
from fewstep.report.costs import processor
from fewstep.report.looks import at_step, written
from fewstep.report.numbers import duration
from fewstep.report.results import Evaluation, Row
from fewstep.report.tables import cell, goal
from fewstep.report.tuning import Gauge

ADHERENCE = "adherence"


@dataclass(frozen=True)
class Tile:
    """A number with what it is above it, and what to hold it against and whose it is below."""

    label: str
    value: str
    beside: str
    whose: str


def tiles(record: RunRecord) -> list[Tile]:
    """What was compared with a goal, adherence from the teacher to the student, what tuning has won
    and lost, and the costs."""
    own = record.evaluation
    return [*goals(own), *adherence(own), *learnt(record.tuning.gauge), *costs(record)]


def costs(record: RunRecord) -> list[Tile]:
    """What a picture takes, and what the training took."""
    return [*calls(record.evaluation), *training(record)]


def students(evaluation: Evaluation) -> list[Row]:
    return [row for row in evaluation.rows if row.role == "student"]


def goals(evaluation: Evaluation) -> list[Tile]:
    """A tile for each goal, with the row that it is about."""
    found: list[Tile] = []
    for c in evaluation.comparisons:
        if c.goal is not None:
            metric = evaluation.metrics[c.metric]
            own = cell(c.number, metric.percent)
            whose = f"{c.rows[0]}; goal {goal(c.goal, metric)}"
            found.append(Tile(metric.label, own.text, sure(own.below), whose))
    return found


def adherence(evaluation: Evaluation) -> list[Tile]:
    """The teacher at full and at few steps and the student, where there is one."""
    if len(students(evaluation)) != 1:
        return []
    found: list[Tile] = []
    for role in ("teacher_full", "teacher_few", "student"):
        row = evaluation.with_role(role)
        if row and ADHERENCE in row.metrics:
            metric = evaluation.metrics[ADHERENCE]
            own = cell(row.metrics[ADHERENCE], metric.percent)
            found.append(Tile(metric.label, own.text, sure(own.below), row.name))
    return found


def sure(interval: str) -> str:
    return f"95 %: {interval}" if interval else "no interval"


def learnt(gauge: Gauge | None) -> list[Tile]:
    """Concept and loss of the look that is kept, where that is not the model before training."""
    if gauge is None or not gauge.kept:
        return []
    kept, whose = at_step(gauge, gauge.kept), f"step {gauge.kept}, one look"
    return [
        Tile("Concept score", written(kept.concept), "0 is no nearer", whose),
        Tile("Loss outside of it", written(kept.loss), f"tolerance {gauge.tolerance:g}", whose),
    ]


def calls(evaluation: Evaluation) -> list[Tile]:
    """What a picture of the student costs in model calls, which no machine changes."""
    full, own = evaluation.with_role("teacher_full"), students(evaluation)
    if len(own) != 1 or not full or not full.spec or not own[0].spec:
        return []
    few, many = own[0].spec.model_calls, full.spec.model_calls
    return [Tile("Model calls a picture", str(few), f"instead of {many}", own[0].name)]


def training(record: RunRecord) -> list[Tile]:
    """How long the student took to train, where that is known."""
    known = record.training
    if known is None or known.seconds is None:
        return []
    took, machine = duration(known.seconds), processor(record.env)
    return [Tile("Training", took, f"{known.steps} steps", machine)]
