"""The story of a run: true pictures, the teacher, where the student began and where it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.evaluate.judge import Judged, difference, kid_gap, recovered
from fewstep.evaluate.results import Comparison, Role


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What `fewstep eval` draws: all models on the same prompts.

    A Shapes picture takes 14 ms of one CPU thread, and 3.3 ms for each model call (engine fused).
    """

    split: Literal["val", "test", "heldout"] = "test"
    prompts: int = 128
    seeds: int = 4
    """Pictures of each prompt: true ones, and those at few steps."""
    full_seeds: int | None = None
    """The same for the teacher at full steps, whose pictures cost most; none is as many."""
    full_steps: int | None = None
    """Steps of that teacher; none takes those of the samples that the student learned from."""
    full_guidance: float | None = None
    """Its w, likewise."""
    batch: int = 32

    def __post_init__(self) -> None:
        for name, least in (("prompts", MIN_PROMPTS), ("seeds", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"eval.{name} must be >= {least}, got {getattr(self, name)}")
        if self.full_seeds is not None and not 1 <= self.full_seeds <= self.seeds:
            raise ValueError(
                f"eval.full_seeds must lie in 1 .. seeds = {self.seeds}, got {self.full_seeds}"
            )
        if self.full_steps is not None and self.full_steps < 1:
            raise ValueError(f"eval.full_steps must be >= 1, got {self.full_steps}")

    def full(self, steps: int, guidance: float) -> tuple[int, float]:
        """Steps and w of the teacher at full steps; given are those of its samples."""
        return (
            steps if self.full_steps is None else self.full_steps,
            guidance if self.full_guidance is None else self.full_guidance,
        )


def comparisons(judged: Judged) -> list[Comparison]:
    """How far the student went from few to full steps, and what it lost or won on either."""
    names: dict[Role, str] = {row.role: row.name for row in judged.rows}
    few, full, student = (names[r] for r in ("teacher_few", "teacher_full", "student"))
    return [
        kid_gap(judged, few, full, student, "share of the KID gap closed"),
        *(
            difference(
                judged, student, teacher, metric,
                f"{metric.replace('_', ' ')}, student minus {teacher}",
            )
            for teacher in (full, few)
            for metric in ("adherence", "layout_diversity")
        ),
    ]  # fmt: skip


SPREADS = ("layout_diversity", "distance", "vendi")
KEPT = ("kid", "adherence", "sharpness", "high_frequency")


def repairs(judged: Judged) -> list[Comparison]:
    """How much of the diversity that the student has lost came back, and what that cost."""
    names: dict[Role, str] = {row.role: row.name for row in judged.rows}
    before, full, after = (names[r] for r in ("teacher_few", "teacher_full", "student"))
    known = judged.draws[after]
    return [
        *(recovered(judged, before, full, after, key) for key in SPREADS if key in known),
        *(difference(judged, after, before, key) for key in KEPT if key in known),
    ]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is asked of a run, and what its few-step rows are called."""

    question: str
    """With {steps} for the number of few steps."""
    start: str
    end: str
    compare: Callable[[Judged], list[Comparison]]


DISTILLED = Story(
    question="Does the {steps}-step student draw like its teacher?",
    start="teacher", end="student", compare=comparisons,
)  # fmt: skip
REPAIRED = Story(
    question="Does the adapter give the {steps}-step student its teacher's diversity?",
    start="student", end="student with adapter", compare=repairs,
)  # fmt: skip
