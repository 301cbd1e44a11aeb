"""What a run of tuning leaves beside its rows, as a report holds it; `report/tuning_files.py` reads
it from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewstep.report.results import Number, Picture


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Means of a quantity over the teacher's pictures, those without context and the training
    pictures (NaN of nothing), and how far the first lies outside of what the others span."""

    teacher: float
    plain: float
    shown: float
    beyond: Number
    limit: float
    option: str
    too_far: bool


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The check of the teacher in context."""

    grid: Picture | None
    faults: Sequence[str]
    forced: bool
    gains: Mapping[str, Number]
    """By the prompts that were asked: all, captions, novel."""
    beside: Mapping[str, Number]
    """The share of pictures with everything else right, of the teacher and without context; empty
    where no world can tell."""
    drifts: Mapping[str, Drift]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look found."""

    step: int
    concept: float
    loss: float
    own_steps: int | None
    """The student's own number of steps, at which `loss` is measured, where it is told."""
    at: Mapping[int, Mapping[str, float]]
    """By number of steps: ratios to the untouched model, shift, and adherence of both where a world
    can tell."""


@dataclass(frozen=True)
class Return:
    """At a step the run went back to an earlier one, and on at a share of its learning rates."""

    step: int
    to: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """The looks of a run, at least one, and what was decided by them."""

    looks: Sequence[Look]
    kept: int
    why: str
    returned: Sequence[Return]
    collapsed: Sequence[int]
    stopped: str
    """Why the run ended early, "" if it did not."""
    tolerance: float
    collapse: float
    strips: Sequence[tuple[str, Sequence[Picture]]]
    """What is drawn, and the untouched model's pictures of it above those of the look that is
    kept, as far as their files are there."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture that is trained on. Sizes are (width, height)."""

    file: str
    pixels: tuple[int, int]
    bucket: tuple[int, int]
    cropped: float
    repeats: int
    captions: Sequence[str]
    enhanced: Sequence[str]
    prompts: Sequence[str]
    """Further ones that were read beside it."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What was found in a folder of pictures."""

    role: str
    path: str
    pictures: Sequence[Shown]
    left_out: Sequence[tuple[str, str, str]]
    """File, fault and why."""
    warnings: Sequence[str]
    ignored: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """All of it; the defaults are those of a run that tunes nothing."""

    teacher: Teacher | None = None
    gauge: Gauge | None = None
    folders: Sequence[Folder] = ()
