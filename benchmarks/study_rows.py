"""From judged runs to rows: a variant over its training seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.study_judge import Result
from benchmarks.study_plan import DEFAULT, Study, Variant

from fewstep.evaluate.statistics import Estimate, over_runs

FAR_BELOW = 0.20
"""Adherence this much below the teacher's at few steps is a collapse."""
SATURATED = 0.5
"""So is more than this share of channel values at either end of the range; true pictures have a few
per cent."""
COLLAPSE = (
    "collapsed: training stopped at values that are not finite, or adherence more than "
    f"{100 * FAR_BELOW:.0f} points below the teacher's at the same number of steps, or more than "
    f"{100 * SATURATED:.0f} % of all channel values at either end of the range"
)
NOTHING = Estimate(math.nan, math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class Row:
    """A variant over its training seeds."""

    variant: Variant
    values: Mapping[int, Mapping[str, float]]
    """Metrics by training seed; a run without pictures is not in it, but in `collapsed`."""
    collapsed: Mapping[int, str]
    """Why, by training seed."""
    minutes: Sequence[float]
    """Of all runs."""

    def mean(self, metric: str) -> Estimate:
        """Over the training seeds that have the number, t-interval; see `missing`."""
        return over_seeds({s: of[metric] for s, of in self.values.items()})

    def missing(self, metric: str) -> dict[int, str]:
        """Why a training seed has no such number. A mean over the others would flatter."""
        unknown = {
            s: f"its {metric.replace('_', ' ')} is not defined"
            for s, of in self.values.items()
            if not math.isfinite(of[metric])
        }
        return {s: why for s, why in self.collapsed.items() if s not in self.values} | unknown

    def minus(self, other: Row, metric: str) -> Estimate:
        """The paired difference over the training seeds that both have."""
        both = self.values.keys() & other.values.keys()
        return over_seeds(
            {s: self.values[s][metric] - other.values[s][metric] for s in sorted(both)}
        )

    @property
    def runs(self) -> int:
        return len(self.minutes)

    @property
    def label(self) -> str:
        v = self.variant
        return "default" if v.name == DEFAULT else f"{v.question}: {v.level}"


def over_seeds(found: Mapping[int, float]) -> Estimate:
    """Over the runs in which the number is defined (a collapsed run may have no layouts)."""
    known = [x for x in found.values() if math.isfinite(x)]
    return over_runs(known) if known else NOTHING


def collapse(result: Result, metrics: Mapping[str, float] | None, few_adherence: float) -> str:
    """Why a run counts as collapsed; "" if it does not."""
    if metrics is None:
        return result.failed or "its pictures are not finite"
    if metrics["adherence"] < few_adherence - FAR_BELOW:
        return f"adherence {metrics['adherence']:.3f} against {few_adherence:.3f} of the teacher"
    if metrics["saturated"] > SATURATED:
        return f"{100 * metrics['saturated']:.0f} % of the values are saturated"
    return ""


def gather(study: Study, results: Sequence[Result], few_adherence: float) -> list[Row]:
    """A row for each variant that has a run, in the order of the plan."""
    rows: list[Row] = []
    for variant in study.variants:
        own = [r for r in results if r.variant == (variant.trained_as or variant.name)]
        found = {r.seed: r.views.get(variant.view) for r in own}
        why = {r.seed: collapse(r, found[r.seed], few_adherence) for r in own}
        if own:
            rows.append(Row(
                variant, {s: m for s, m in found.items() if m is not None},
                {s: text for s, text in why.items() if text}, [r.minutes for r in own],
            ))  # fmt: skip
    return rows
