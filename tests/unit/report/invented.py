"""Rows, numbers and comparisons with invented values."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fewstep.report.results import Comparison, Evaluation, Metric, Number, Row, Spec

METRICS = {
    "kid": Metric(label="KID", group="fidelity", better="lower is better", target=0.0, main=True),
    "adherence": Metric(
        label="Adherence", group="adherence", better="higher is better", percent=True, main=True
    ),
    "kid_gap_closed": Metric(label="KID gap closed", group="fidelity", percent=True),
}


def number(value: float, low: float = math.nan, high: float = math.nan) -> Number:
    return Number(value, low, high, 64, 4, 1)


def spec(prompts: str) -> Spec:
    return Spec(
        fingerprint="f", n_prompts=64, prompts_hash=prompts, seeds=(0,), sigmas=(1.0, 0.0),
        sampler="euler", guidance=1.0, model_calls=1, height=64, width=64, identity=prompts,
    )  # fmt: skip


def row(
    name: str, role: str = "other", prompts: str = "p", run: str = "", **metrics: Number
) -> Row:
    return Row(name=name, role=role, metrics=metrics, spec=spec(prompts), run=run)


def difference(
    metric: str, name: str, estimate: Number, rows: tuple[str, str] = ("A", "B")
) -> Comparison:
    return Comparison(name=name, metric=metric, goal=None, number=estimate, rows=rows)


def gap(
    estimate: Number, goal: float | None = 0.8, rows: tuple[str, str, str] = ("S", "few", "full")
) -> Comparison:
    """How much of the way from the second to the third row the first has gone."""
    return Comparison(name="", metric="kid_gap_closed", goal=goal, number=estimate, rows=rows)


def evaluation(
    *rows: Row, comparisons: tuple[Comparison, ...] = (), metrics: Mapping[str, Metric] = METRICS
) -> Evaluation:
    return Evaluation(rows=rows, comparisons=comparisons, metrics=metrics)


A = row("A", kid=number(0.1, 0.08, 0.12), adherence=number(0.5, 0.45, 0.55))
B = row("B", kid=number(0.1, 0.09, 0.11), adherence=number(0.8, 0.75, 0.85))
C = row("C", kid=number(0.11, 0.09, 0.13), adherence=number(0.52, 0.47, 0.57))
