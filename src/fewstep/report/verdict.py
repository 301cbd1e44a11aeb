"""What the numbers say, in a short answer and one sentence, as careful as their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from fewstep.report.numbers import named, shown, shown_difference
from fewstep.report.results import Comparison, Evaluation, Number, Row

GAP_CLOSED = "kid_gap_closed"


@dataclass(frozen=True)
class Verdict:
    """`answer` is a few words, `sentence` what supports them."""

    answer: str
    sentence: str


def verdict(evaluation: Evaluation) -> Verdict:
    """The answer of one evaluation: the share of the gap closed, else the clearest difference."""
    closed = [c for c in evaluation.comparisons if c.metric == GAP_CLOSED]
    students = [row for row in evaluation.rows if row.role == "student"]
    if len(closed) == len(students) == 1:  # of more it is not known which belongs to which
        return gap(closed[0], students[0], evaluation)
    models = drawn(evaluation.rows)
    if not models:
        return Verdict("Not measured yet", "There is no evaluation of a model here.")
    if len(models) == 1:
        return Verdict(
            "Nothing to compare", f"{models[0].name} was measured, and no other model beside it."
        )
    return paired(evaluation, models) or apart(evaluation, models)


def verdict_of_several(evaluation: Evaluation) -> Verdict:
    """The answer of several runs: where their students, else their models, differ most clearly."""
    models = drawn(evaluation.rows)
    if not models:
        return Verdict("Not measured yet", "None of these runs has an evaluation.")
    students = [row for row in models if row.role == "student"]
    compared = students if len(students) > 1 else models
    if len(compared) == 1:
        return Verdict("Nothing to compare", f"All of these runs measured {compared[0].name}.")
    return apart(evaluation, compared)


def drawn(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.role != "truth"]


def gap(closed: Comparison, student: Row, evaluation: Evaluation) -> Verdict:
    """How far the student went from the teacher at few steps to the teacher at full steps."""
    value, interval = shown(closed.number, percent=True)
    if not math.isfinite(closed.number.value):
        return Verdict(
            "Cannot tell",
            "The teacher at few steps is not worse than at all of its steps on these prompts, "
            "so there is no gap to close.",
        )
    if not interval:
        return Verdict(
            "Cannot tell",
            f"{student.name} closes {value} of the KID gap, but that has no interval: either the "
            "gap is too small for this number of prompts, or nothing was resampled.",
        )
    sentence = f"{student.name} closes {value} (95 % interval {interval}) of the KID gap"
    few, full = evaluation.with_role("teacher_few"), evaluation.with_role("teacher_full")
    if few and full:
        sentence += f" between {few.name} and {full.name}"
    if closed.goal is not None:
        sentence += f"; the goal is {closed.goal * 100:.0f} %"
    return Verdict(answer(closed), sentence + ".")


def answer(closed: Comparison) -> str:
    """Words for the share of the gap that was closed, as careful as its interval."""
    goal = 0.8 if closed.goal is None else closed.goal
    if closed.number.low >= goal:
        return "Yes"
    if closed.number.value >= goal:
        return "Yes, though the interval reaches below the goal"
    if closed.number.low > 0:
        return "In part"
    if closed.number.high < 0:
        return "No: it is worse than the teacher at few steps"
    return "Not shown"


def is_difference(comparison: Comparison, rows: Sequence[Row]) -> bool:
    """Whether it is the difference of a metric of rows; else it is a quantity of its own."""
    return any(comparison.metric in row.metrics for row in rows)


def paired(evaluation: Evaluation, models: Sequence[Row]) -> Verdict | None:
    """From the paired comparisons; None without one."""
    known = [
        c
        for c in evaluation.comparisons
        if c.number.has_interval and is_difference(c, evaluation.rows)
    ]
    if not known:
        return None
    compared = f"Compared: {listing(models)}."
    clear = [c for c in known if c.number.low > 0 or c.number.high < 0]
    if not clear:
        return Verdict(
            "No difference shown",
            f"{compared} None of {len(known)} paired comparisons differs from zero beyond its "
            "95 % interval.",
        )
    best = max(clear, key=lambda c: abs(c.number.value) / width(c.number))
    metric = evaluation.metrics[best.metric]
    value, interval = shown_difference(best.number, metric.percent)
    return Verdict(
        f"They differ, most clearly in {metric.label}",
        f"{compared} Clearest of {len(known)} paired comparisons: {best.name}, {value} "
        f"(95 % interval {interval}).",
    )


def apart(evaluation: Evaluation, models: Sequence[Row]) -> Verdict:
    """From intervals that do not touch, of rows that drew the same prompts."""
    compared = f"Compared: {listing(models)}."
    found: list[tuple[float, str, Row, Row]] = []
    comparable = 0
    for a, b in combinations(models, 2):
        if a.spec and b.spec and a.spec.prompts_hash != b.spec.prompts_hash:
            continue
        for key in a.metrics.keys() & b.metrics.keys():
            x, y = a.metrics[key], b.metrics[key]
            if x.has_interval and y.has_interval:
                comparable += 1
                distance = max(x.low, y.low) - min(x.high, y.high)
                if distance > 0:
                    found.append((distance / (width(x) + width(y)), key, a, b))
    if not comparable:
        return Verdict("Not comparable", f"{compared} No two have an interval on the same prompts.")
    if not found:
        return Verdict(
            "No difference shown", f"{compared} The intervals of every metric touch one another."
        )
    # of equal distances the first by name, so that a page is the same each time
    _, key, a, b = max(found, key=lambda item: (item[0], item[1]))
    metric = evaluation.metrics[key]
    sides = [
        f"{value} ({interval}) for {title(row, models)}"
        for row in (a, b)
        for value, interval in [shown(row.metrics[key], metric.percent)]
    ]
    return Verdict(
        f"They differ, most clearly in {metric.label}",
        f"{compared} Clearest: {metric.label} is {named(sides)}, and the 95 % intervals do not "
        "touch.",
    )


def width(number: Number) -> float:
    """Of the interval, never 0."""
    return max(number.high - number.low, 1e-12)


def title(row: Row, models: Sequence[Row]) -> str:
    """The name of a row, or that of its run where all models have one name."""
    if not row.run:
        return row.name
    alike = len({model.name for model in models}) == 1
    return row.run if alike else f"{row.name} of {row.run}"


def listing(models: Sequence[Row]) -> str:
    """Their names, or their number where there are many."""
    if len(models) > 4:
        return f"{len(models)} models"
    return named([title(row, models) for row in models])
