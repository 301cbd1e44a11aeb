"""From results to rows: an arm over its concepts and training seeds, and numbers with intervals.

Concepts are what a claim generalises over, so an interval is over them: the mean of a concept's
training seeds counts once, and the t-interval is over these means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.dopsd_arms import MAIN, Arm
from benchmarks.dopsd_plan import Task
from benchmarks.study_judge import Result
from benchmarks.study_rows import NOTHING

from fewstep.evaluate.statistics import Estimate, over_runs

Found = Mapping[tuple[str, int], float]
"""A number by concept and training seed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    arm: Arm
    results: Mapping[tuple[str, int], Result]
    """By concept and training seed."""

    @property
    def label(self) -> str:
        match self.arm.question:
            case "recipe":
                return "recipe"
            case "method":
                return self.arm.level
            case question:
                return f"{question}: {self.arm.level}"

    def found(self, view: str, metric: str) -> dict[tuple[str, int], float]:
        """Of the runs that have the number."""
        values = {
            key: r.views[view][metric]
            for key, r in self.results.items()
            if metric in r.views.get(view, {})
        }
        return {key: x for key, x in values.items() if math.isfinite(x)}

    def of(self, view: str, metric: str) -> Estimate:
        return over_concepts(self.found(view, metric))

    def minus(self, other: Row, view: str, metric: str) -> Estimate:
        """The difference, paired by concept and training seed."""
        own, theirs = self.found(view, metric), other.found(view, metric)
        return over_concepts({key: own[key] - theirs[key] for key in own if key in theirs})

    def over(self, bases: Mapping[str, float], view: str, metric: str) -> Estimate:
        """The mean over the concepts' mean of `bases`, which are by concept."""
        return share_of(by_concept(self.found(view, metric)), bases)

    def missing(self, view: str, metric: str) -> dict[tuple[str, int], str]:
        """Why a run has no such number. A mean over the others would flatter."""
        known = self.found(view, metric)
        undefined = f"its {metric.replace('_', ' ')} is not defined"
        return {key: r.failed or undefined for key, r in self.results.items() if key not in known}

    @property
    def minutes(self) -> float:
        return float(np.mean([r.minutes for r in self.results.values()]))


def by_concept(found: Found) -> dict[str, float]:
    """The mean of each concept over its training seeds."""
    names = dict.fromkeys(name for name, _ in found)
    return {
        name: float(np.mean([x for (own, _), x in found.items() if own == name])) for name in names
    }


def over_concepts(found: Found) -> Estimate:
    """Mean and t-interval over the concepts' means; one concept has no interval."""
    means = list(by_concept(found).values())
    return over_runs(means) if means else NOTHING


def share_of(own: Mapping[str, float], bases: Mapping[str, float]) -> Estimate:
    """The sum over concepts of `own` over that of `bases`: a concept of which nobody is capable
    then counts for nothing, where a mean of ratios would have no value.

    The t-interval of the residuals own - share x base, in units of the mean base (a ratio
    estimator, Cochran 1977, section 6.3).
    """
    names = [name for name in own if name in bases]
    if not names or not sum(bases[name] for name in names) > 0:
        return NOTHING
    top, bottom = (np.array([of[name] for name in names]) for of in (own, bases))
    share = float(top.sum() / bottom.sum())
    off = over_runs(list((top - share * bottom) / bottom.mean()))
    return Estimate(share, share + off.low, share + off.high, 0, 0, off.n_runs)


def gather(tasks: Sequence[Task], results: Mapping[Task, Result]) -> list[Row]:
    """A row for each arm that has a result, in the order of the plan."""
    arms = {task.arm.name: task.arm for task in tasks}
    rows = [
        Row(arm=arm, results={
            (task.taught.name, task.seed): results[task]
            for task in tasks if task in results and task.arm.name == name and task.first is None
        })
        for name, arm in arms.items()
    ]  # fmt: skip
    return [row for row in rows if row.results]


def main_row(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.arm.name == MAIN), None)
