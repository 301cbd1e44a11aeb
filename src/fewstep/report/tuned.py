"""The part of a page that is about tuning: the teacher, the looks and the pictures of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.report.collect import RunRecord
from fewstep.report.looks import AtSteps, Told, overlaid, panels_of, table_of, told, verdict_of
from fewstep.report.plots import Panel
from fewstep.report.results import Picture
from fewstep.report.teacher import Checked, checked
from fewstep.report.tuning import Folder, Gauge, Teacher
from fewstep.report.verdict import Verdict, verdict

QUESTION = "Did the model learn the new thing and keep the rest?"


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The gauge of a run."""

    gauge: Gauge
    verdict: Verdict
    table: AtSteps
    told: Sequence[Told]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A run that tunes; what it has not got is None or empty."""

    name: str
    teacher: tuple[Teacher, Checked] | None
    looked: Looked | None
    folders: Sequence[Folder]


def tuned(records: Sequence[RunRecord]) -> list[Tuned]:
    """The runs that have any of it."""
    found: list[Tuned] = []
    for record in records:
        teacher, gauge, folders = record.tuning.teacher, record.tuning.gauge, record.tuning.folders
        if teacher or gauge or folders:
            found.append(Tuned(
                name=record.name, teacher=(teacher, checked(teacher)) if teacher else None,
                looked=looked(gauge) if gauge else None, folders=folders,
            ))  # fmt: skip
    return found


def looked(gauge: Gauge) -> Looked:
    return Looked(gauge=gauge, verdict=verdict_of(gauge), table=table_of(gauge), told=told(gauge))


def panels_of_looks(records: Sequence[RunRecord]) -> list[Panel]:
    """All that one run tells, or concept and loss of several."""
    gauges = {r.name: r.tuning.gauge for r in records if r.tuning.gauge}
    if len(records) == 1:
        return [panel for gauge in gauges.values() for panel in panels_of(gauge)]
    return overlaid(gauges) if gauges else []


def verdict_on(record: RunRecord) -> Verdict:
    """What its evaluation says, else what its gauge does."""
    gauge = record.tuning.gauge
    return verdict_of(gauge) if gauge and not record.evaluation.rows else verdict(record.evaluation)


def question(records: Sequence[RunRecord], otherwise: str) -> str:
    """Of a page that no evaluation gives one."""
    tuning = [r for r in records if r.tuning.teacher or r.tuning.gauge]
    return QUESTION if tuning else otherwise


def pictures_of(records: Sequence[RunRecord]) -> list[Picture]:
    """Those of the checks and of the looks."""
    found: list[Picture] = []
    for record in records:
        teacher, gauge = record.tuning.teacher, record.tuning.gauge
        found += [teacher.grid] if teacher and teacher.grid else []
        found += [picture for _, own in gauge.strips for picture in own] if gauge else []
    return found
