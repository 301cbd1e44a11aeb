"""In what a student is worse than its teacher at full steps, whatever its KID says."""

from __future__ import annotations

from fewstep.report.results import Comparison, Evaluation, Metric, Number, Row

OF_THE_GAP = "kid"
"""Told by the share of the gap: it is worse wherever that is below 1."""


def losses(evaluation: Evaluation, student: Row, full: Row) -> list[Comparison]:
    """The paired comparisons by which the student is worse than the teacher at full steps."""
    found: list[Comparison] = []
    for c in evaluation.comparisons:
        own, other = student.metrics.get(c.metric), full.metrics.get(c.metric)
        if c.metric == OF_THE_GAP or c.rows != (student.name, full.name) or not (own and other):
            continue
        if is_worse(c.number, own, other, evaluation.metrics[c.metric]):
            found.append(c)
    return found


def is_worse(difference: Number, own: Number, other: Number, metric: Metric) -> bool:
    """Whether `difference`, of own minus other, is one to the worse beyond its interval.

    Where a metric has a best value between too little and too much, own must surely lie on the side
    of it that the difference points to, and further away.
    """
    lower, higher = difference.high < 0, difference.low > 0  # both false without an interval
    match metric.better:
        case "higher is better":
            return lower
        case "lower is better":
            return higher
        case _ if metric.target is not None:
            below, above = own.high < metric.target, own.low > metric.target
            beyond = (lower and below) or (higher and above)
            return beyond and abs(own.value - metric.target) > abs(other.value - metric.target)
        case _:
            return False
