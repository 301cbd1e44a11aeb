"""From results to rows: a variant or a drawing over its training seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.sda_plan import Bench
from benchmarks.sda_results import Kind, Result
from benchmarks.study_plan import DEFAULT, Job
from benchmarks.study_rows import NOTHING

from fewstep.evaluate.statistics import Estimate, over_runs


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    question: str
    level: str
    results: Sequence[Result]
    """By training seed; one where nothing was trained."""

    @property
    def label(self) -> str:
        return "recipe" if self.name == DEFAULT else f"{self.question}: {self.level}"

    @property
    def runs(self) -> int:
        return len(self.results)

    def by_seed(self, kind: Kind, metric: str) -> dict[int | None, Estimate]:
        """Of the results that have the number, each with its interval over prompts."""
        found = {r.seed: r.found.of(kind).get(metric, NOTHING) for r in self.results if r.found}
        return {seed: e for seed, e in found.items() if math.isfinite(e.value)}

    def of(self, kind: Kind, metric: str) -> Estimate:
        """Mean and t-interval over the training seeds that have the number; of a single one its
        interval over prompts. See `missing`."""
        return combined(self.by_seed(kind, metric))

    def missing(self, kind: Kind, metric: str) -> dict[int | None, str]:
        """Why a training seed has no such number. A mean over the others would flatter."""
        known = self.by_seed(kind, metric)
        undefined = f"its {metric.replace('_', ' ')} is not defined"
        return {r.seed: r.failed or undefined for r in self.results if r.seed not in known}

    def minus(self, other: Row, kind: Kind, metric: str) -> Estimate:
        """The paired difference over the training seeds that both have; without an interval where
        that is one."""
        own, theirs = self.by_seed(kind, metric), other.by_seed(kind, metric)
        both = [own[s].value - theirs[s].value for s in own if s in theirs]
        return over_runs(both) if both else NOTHING


def combined(found: Mapping[int | None, Estimate]) -> Estimate:
    known = list(found.values())
    if not known:
        return NOTHING
    if len(known) == 1:
        return known[0]
    return over_runs([e.value for e in known], known[0].n_prompts, known[0].n_seeds)


def gather(bench: Bench, results: Sequence[Result]) -> list[Row]:
    """A row for each variant or drawing that has a result, in the order of the plan."""
    named: dict[str, tuple[str, str]] = {}
    for task in bench.tasks:
        what = task.variant if isinstance(task, Job) else task
        named.setdefault(what.name, (what.question, what.level))
    rows = [
        Row(name=name, question=question, level=level,
            results=[r for r in results if r.name == name])
        for name, (question, level) in named.items()
    ]  # fmt: skip
    return [row for row in rows if row.results]


def level(rows: Sequence[Row], name: str) -> Row:
    """The row of this level, which is the default's where the recipe has that very value."""
    return next((row for row in rows if row.name == name), rows[0])
