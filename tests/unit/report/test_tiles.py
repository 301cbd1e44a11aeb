"""The first numbers of a page: whose they are, how sure, and what it cost."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.report.invented import A, evaluation, gap, number, row

from fewstep.report.collect import RunRecord, Training
from fewstep.report.results import Comparison, Evaluation, Row
from fewstep.report.tiles import costs, tiles

RIGHT = number(0.5, 0.4, 0.6)
FULL, FEW, STUDENT = (
    row(role, role, adherence=RIGHT) for role in ("teacher_full", "teacher_few", "student")
)


def closed(student: str = "student") -> Comparison:
    return gap(number(0.85, 0.82, 0.9), rows=(student, "teacher_few", "teacher_full"))


def record(found: Evaluation, training: Training | None = None, **env: str) -> RunRecord:
    return RunRecord(
        name="r", config="", settings={}, env=env, commands=[], training=training,
        evaluation=found, samples=[],
    )  # fmt: skip


def trained(seconds: float | None) -> Training:
    return Training(
        series={}, begun=None, steps=1200, seconds=seconds, skipped=0, not_finite=0,
        cpu_seconds=None, gpu_seconds=None, peak_memory_mb=None,
    )  # fmt: skip


def calls(known: Row, count: int) -> Row:
    assert known.spec is not None
    return replace(known, spec=replace(known.spec, model_calls=count))


def test_tiles_tell_the_way_from_teacher_to_student() -> None:
    rows = (STUDENT, FEW, FULL)
    found = tiles(record(evaluation(*rows, comparisons=(closed(),))))
    assert [(tile.label, tile.value, tile.beside, tile.whose) for tile in found[:4]] == [
        ("KID gap closed", "85.0 %", "95 %: 82.0 to 90.0", "student; goal 80 %"),
        ("Adherence", "50.0 %", "95 %: 40.0 to 60.0", "teacher_full"),
        ("Adherence", "50.0 %", "95 %: 40.0 to 60.0", "teacher_few"),
        ("Adherence", "50.0 %", "95 %: 40.0 to 60.0", "student"),
    ]
    bare = replace(closed(), number=number(0.85))
    first, *_ = tiles(record(evaluation(*rows, comparisons=(bare,))))
    assert first.beside == "no interval"


def test_a_gap_belongs_to_the_student_that_it_names() -> None:
    second = replace(STUDENT, name="second")
    both = (closed(), closed("second"))
    found = tiles(record(evaluation(STUDENT, second, FULL, comparisons=both)))
    assert [tile.whose for tile in found] == ["student; goal 80 %", "second; goal 80 %"]
    found = tiles(record(evaluation(STUDENT, second, FULL, comparisons=both[1:])))
    assert [tile.whose for tile in found] == ["second; goal 80 %"]
    assert tiles(record(evaluation(A, FULL))) == []


def test_costs_are_told_where_they_are_known() -> None:
    rows = evaluation(calls(STUDENT, 4), calls(FULL, 40))
    called, took = costs(record(rows, trained(890.0), cpu="Some CPU", cpus="2"))
    assert (called.value, called.beside, called.whose) == ("4", "instead of 40", "student")
    assert (took.value, took.beside, took.whose) == ("14.8 min", "1200 steps", "Some CPU \u00d7 2")
    machine = {"cpu": "Some CPU", "cpus": "2", "gpu": "Some GPU"}
    on_gpu = costs(record(rows, trained(890.0), **machine))[1]
    assert on_gpu.whose == "Some GPU"
    # not known is not 0
    assert costs(record(evaluation(STUDENT), trained(None))) == []
    assert costs(record(evaluation(replace(STUDENT, spec=None), FULL))) == []
