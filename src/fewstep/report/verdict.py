"""What the numbers say, in a short answer and one sentence, as careful as their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from fewstep.report.losses import losses
from fewstep.report.numbers import named, repeated, shown, shown_difference, within
from fewstep.report.results import Comparison, Evaluation, Number, Row, Spec

GAP_CLOSED = "kid_gap_closed"


@dataclass(frozen=True)
class Verdict:
    """`answer` is a few words, `sentence` what supports them."""

    answer: str
    sentence: str


def verdict(evaluation: Evaluation) -> Verdict:
    """The answer of one evaluation: the share of the gap closed, else the clearest difference."""
    students = [row for row in evaluation.rows if row.role == "student"]
    closed = [
        (c, student)
        for c in evaluation.comparisons
        for student in students
        if c.metric == GAP_CLOSED and c.rows[0] == student.name
    ]
    if len(closed) == 1:  # of several no single answer holds
        return gap(*closed[0], evaluation)
    models = drawn(evaluation.rows)
    if not models:
        return Verdict("Not measured yet", "There is no evaluation of a model here.")
    if len(models) == 1:
        return Verdict(
            "Nothing to compare",
            f"{quoted(models[0].name)} was measured, and no other model beside it.",
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
        return Verdict(
            "Nothing to compare", f"All of these runs measured {quoted(compared[0].name)}."
        )
    return apart(evaluation, compared)


def drawn(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.role != "truth"]


def gap(closed: Comparison, student: Row, evaluation: Evaluation) -> Verdict:
    """How far the student went from the teacher at few steps to the teacher at full steps."""
    few, full = (evaluation.with_name(name) for name in closed.rows[1:])
    lost = losses(evaluation, student, full) if full else []
    after = ""
    if full and lost:
        after = f" Worse than {quoted(full.name)}: {named([told(c, evaluation) for c in lost])}."
    if not math.isfinite(closed.number.value):
        return Verdict(
            "Cannot tell",
            "The teacher at few steps is not worse than at all of its steps on these prompts, "
            f"so there is no gap to close.{after}",
        )
    value, interval = shown(closed.number, percent=True)
    closes = f"{quoted(student.name)} closes {value}"
    if not interval:
        return Verdict(
            "Cannot tell",
            f"{closes} of the KID gap, but that has no interval: either the gap is too small for "
            f"this number of prompts, or nothing was resampled.{after}",
        )
    sentence = f"{closes} (95 % interval {interval}) of the KID gap"
    if few and full:
        sentence += f" between {quoted(few.name)} and {quoted(full.name)}"
    if closed.goal is not None:
        sentence += f"; the goal is {closed.goal * 100:.0f} %"
    if closed.number.n_runs == 1:
        after += " This is one training run: another may end elsewhere."
    labels = [within(evaluation.metrics[c.metric].label) for c in lost]
    return Verdict(answer(closed, labels), f"{sentence}.{after}")


def answer(closed: Comparison, lost: Sequence[str] = ()) -> str:
    """Words for the share of the gap that was closed, as careful as its interval.

    Without a goal the whole gap is meant. `lost` are metrics that are worse than the teacher's.
    """
    number, goal = closed.number, 1.0 if closed.goal is None else closed.goal
    worse = f"{named(lost)} worse" if lost else ""
    if number.high < 0:
        return "No: it is worse than the teacher at few steps"
    if number.low >= goal:
        return f"In part: KID goal reached, {worse}" if worse else "Yes"
    if number.low <= 0:
        found = "Not shown"
    else:
        found = "In part: KID goal " + ("not settled" if number.high >= goal else "missed")
    return f"{found}, {worse}" if worse else found


def told(difference: Comparison, evaluation: Evaluation) -> str:
    """A difference with its metric: `adherence \u221216.0 points (\u221220.5 to \u221211.5)`."""
    metric = evaluation.metrics[difference.metric]
    value, interval = shown_difference(difference.number, metric.percent)
    return f"{within(metric.label)} {value} ({interval})"


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
        f"They differ, most clearly in {within(metric.label)}",
        f"{compared} Clearest of {len(known)} paired comparisons: {best.name}, {value} "
        f"(95 % interval {interval}).",
    )


def apart(evaluation: Evaluation, models: Sequence[Row]) -> Verdict:
    """From intervals that do not touch, of rows that drew the same prompts: those of the main
    metrics where there are any, for among many some are apart by chance."""
    compared = f"Compared: {listing(models)}."
    every = {key for row in models for key in row.metrics}
    looked = {key for key in every if evaluation.metrics[key].main} or every
    found: list[tuple[float, str, Row, Row]] = []
    comparable = 0
    for a, b in combinations(models, 2):
        for key in looked & a.metrics.keys() & b.metrics.keys() if alike(a, b) else ():
            x, y = a.metrics[key], b.metrics[key]
            if x.has_interval and y.has_interval:
                comparable += 1
                distance = max(x.low, y.low) - min(x.high, y.high)
                if distance > 0:
                    found.append((distance / (width(x) + width(y)), key, a, b))
    if not comparable:
        return Verdict(
            "Not comparable",
            f"{compared} No two have intervals from equally many pictures of the same prompts.",
        )
    if not found:
        return Verdict(
            "No difference shown",
            f"{compared} The two intervals touch in each of {comparable} comparisons.",
        )
    # of equal distances the first by name, so that a page is the same each time
    _, key, a, b = max(found, key=lambda item: (item[0], item[1]))
    metric, numbers = evaluation.metrics[key], [row.metrics[key] for row in (a, b)]
    sides = [
        f"{value} ({interval}) for {title(row, models)}"
        for row, number in zip((a, b), numbers, strict=True)
        for value, interval in [shown(number, metric.percent)]
    ]
    sentence = (
        f"{compared} Clearest of {comparable} comparisons: {within(metric.label)} is "
        f"{named(sides)}; these 95 % intervals over {repeated(numbers)} do not touch."
    )
    if "student" in (a.role, b.role) and all(number.n_runs == 1 for number in numbers):
        sentence += " A student is one training run here: another may end elsewhere."
    return Verdict(f"They differ, most clearly in {within(metric.label)}", sentence)


def alike(a: Row, b: Row) -> bool:
    """Whether two rows drew as many pictures of the same prompts at one size: some metrics feel
    each of these. What was drawn without a spec is known within one evaluation only."""
    if a.spec is None or b.spec is None:
        return a.run == b.run

    def asked(spec: Spec) -> tuple[str, int, int, int]:
        return spec.prompts_hash, len(spec.seeds), spec.height, spec.width

    return asked(a.spec) == asked(b.spec)


def width(number: Number) -> float:
    """Of the interval, never 0."""
    return max(number.high - number.low, 1e-12)


def title(row: Row, models: Sequence[Row]) -> str:
    """The name of a row, or that of its run where all models have one name."""
    if not row.run:
        return quoted(row.name)
    one_name = len({model.name for model in models}) == 1
    return row.run if one_name else f"{quoted(row.name)} of {row.run}"


def quoted(name: str) -> str:
    """A name in a sentence: with a comma of its own it needs marks around it."""
    return f"\u201c{name}\u201d" if "," in name else name


def listing(models: Sequence[Row]) -> str:
    """Their names, or their number where there are many."""
    if len(models) > 4:
        return f"{len(models)} models"
    return named([title(row, models) for row in models])
