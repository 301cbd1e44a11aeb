"""What the numbers say, in one sentence and three figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.report.collect import Comparison, Number, RunRecord

MINUS, TIMES = "\u2212", "\u00d7"


@dataclass(frozen=True)
class Metric:
    """How a metric is shown."""

    label: str
    better: str
    explained: str
    percent: bool = False
    target: float | None = None
    """The value of the truth, marked in plots."""


METRICS = {
    "kid": Metric(
        "KID", "lower is better",
        "Distance of the images to true pictures of the same prompts; 0 is the truth.", target=0.0,
    ),
    "adherence": Metric(
        "Adherence", "higher is better", "Share of images with everything that was asked.", True,
        1.0,
    ),
    "layout_diversity": Metric(
        "Layout diversity", "1 is the truth",
        "How far apart the seeds of a prompt place its objects, relative to the truth.",
        target=1.0,
    ),
    "sharpness": Metric(
        "Sharpness", "1 is the truth", "Steepness of edges relative to the truth.", target=1.0
    ),
    "high_frequency": Metric(
        "Fine detail", "1 is the truth",
        "Power above half the Nyquist frequency relative to the truth; above 1 is noise.",
        target=1.0,
    ),
    "kid_gap_closed": Metric("KID gap closed", "higher is better", "", True),
}  # fmt: skip


def metric(name: str) -> Metric:
    """A part of the adherence is a share too; an unknown metric is shown under its own name."""
    if name in METRICS:
        return METRICS[name]
    part = name.removeprefix("adherence_")
    return Metric(part.replace("_", " ").capitalize(), "", "", percent=part != name)


def digits(number: Number, percent: bool = False) -> int:
    """Decimals that show two figures of half the interval, within reason."""
    scale = 100.0 if percent else 1.0
    half = (number.high - number.low) / 2 if number.has_interval else abs(number.value) / 2
    wanted = 1 - math.floor(math.log10(half * scale)) if half > 0 else 0
    return min(max(wanted, 0), 1 if percent else 4)


def shown(number: Number, percent: bool = False, decimals: int | None = None) -> tuple[str, str]:
    """Value and interval with the digits that the interval supports; "" without interval."""
    if not math.isfinite(number.value):
        return "n/a", ""
    places = digits(number, percent) if decimals is None else decimals

    def text(value: float) -> str:
        rounded = round(value * (100 if percent else 1), places) + 0.0  # no "-0.0"
        return f"{rounded:.{places}f}".replace("-", MINUS)

    interval = f"{text(number.low)} to {text(number.high)}" if number.has_interval else ""
    return text(number.value) + (" %" if percent else ""), interval


def counted(number: Number) -> str:
    """What was repeated."""
    if number.n_runs > 1:
        return f"{number.n_runs} training runs"
    return f"{number.n_prompts} prompts {TIMES} {number.n_seeds} seeds"


def repeated(numbers: Sequence[Number]) -> str:
    """`counted` of several numbers: each of its answers once."""
    return ", ".join(dict.fromkeys(counted(n) for n in numbers))


def verdict(record: RunRecord) -> tuple[str, str]:
    """A short answer, and the sentence that supports it."""
    closed = record.comparison("kid_gap_closed")
    student, few, full = (record.with_role(r) for r in ("student", "teacher_few", "teacher_full"))
    if closed is None or student is None:
        return "Not measured yet", "This run has no evaluation of a student beside its teacher."
    if not math.isfinite(closed.number.value) or not closed.number.has_interval:
        return "Cannot tell", (
            "The teacher at few steps is not measurably worse than at all of its steps, "
            "so there is no gap to close at this sample size."
        )
    value, interval = shown(closed.number, percent=True)
    sentence = f"{student.name} closes {value} (95 % interval {interval}) of the KID gap"
    if few and full:
        sentence += f" between {few.name} and {full.name}"
    if closed.goal is not None:
        sentence += f"; the goal is {closed.goal * 100:.0f} %"
    return answer(closed), sentence + "."


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
