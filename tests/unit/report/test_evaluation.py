"""evaluation.json, schema 3: read whole, and refused in one sentence where it is not that."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report.demo_run import FEW, FULL, STUDENT, Invented, demo_evaluation

from fewstep.report.collect import collect, step_of, training
from fewstep.report.evaluation import read_evaluation
from fewstep.report.results import Number
from fewstep.runs import RunError


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_evaluation(tmp_path_factory.mktemp("runs") / "quick", Invented())


def test_what_is_written_is_read(directory: Path) -> None:
    found = read_evaluation(directory)
    assert (found.suite, found.world) == ("run", "shapes")
    assert [row.name for row in found.rows] == ["True pictures", FULL, FEW, STUDENT]
    assert [row.role for row in found.rows] == ["truth", "teacher_full", "teacher_few", "student"]
    truth, full, _, student = found.rows
    assert truth.spec is None and truth.cost is None
    assert full.spec is not None and full.cost is not None
    assert full.spec.model_calls == 60 and full.spec.guidance == 2.0
    assert (
        full.spec.seeds == (0, 1, 2, 3) and full.spec.sigmas[0] == 1 and full.spec.sigmas[-1] == 0
    )
    assert (full.cost.images, full.cost.model_calls, full.cost.peak_memory_mb) == (512, 30720, 810)
    assert student.cost is not None and student.cost.peak_memory_mb is None
    assert student.metrics["adherence"] == Number(0.938, 0.938 - 0.021, 0.938 + 0.021, 128, 4, 1)
    kid, adherence = found.metrics["kid"], found.metrics["adherence"]
    assert (kid.group, kid.better, kid.target, kid.main) == ("fidelity", "lower is better", 0, True)
    assert adherence.percent and not kid.percent
    assert found.comparisons[0].rows == (STUDENT, FEW, FULL)
    assert found.comparisons[1].rows == (STUDENT, FULL)
    assert found.comparisons[0].goal == 0.8 and found.comparisons[1].goal is None
    assert found.sheets[5].row == STUDENT and found.sheets[5].picture.path.is_file()
    steps = found.curves[0].lines["Student"]
    assert [point.label for point in steps] == ["1", "2", "4", "8", "16"]
    assert not steps[0].x.has_interval and steps[0].y.has_interval


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what a path of keys leads to; "gone" removes it."""

    def change(record: dict[str, Any]) -> None:
        place: Any = record
        for key in keys[:-1]:
            place = place[key]
        if value == "gone":
            del place[keys[-1]]
        else:
            place[keys[-1]] = value

    return change


ESTIMATE = ("rows", 1, "metrics", "kid")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("schema", value=2), "its schema is 2"),
        (put("schema", value="gone"), "schema is missing"),
        (put("notes", value="gone"), "notes is missing"),
        (put("question", value=3), "question must be a text, got 3"),
        (put("rows", value={}), "rows must be a list"),
        (put("rows", 1, "role", value="teacher"), r"rows\[1\].role must be one of 'truth', "),
        (put(*ESTIMATE, "value", value="0.1"), r"rows\[1\].metrics.kid.value must be a number"),
        (put(*ESTIMATE, "value", value=True), "must be a number, got True"),
        (put(*ESTIMATE, "value", value=math.inf), "must be a number, got inf"),
        (put(*ESTIMATE, "low", value=None), "both bounds or none"),
        (put(*ESTIMATE, "n_seeds", value=1.5), "n_seeds must be a whole number, got 1.5"),
        (put(*ESTIMATE, "n_runs", value="gone"), "n_runs is missing"),
        (put("metrics", "kid", value="gone"), "metrics.kid, of which the row 'True pictures'"),
        (put("metrics", "kid_gap_closed", value="gone"), "metrics.kid_gap_closed, of which comp"),
        (put("metrics", "kid", "group", value="speed"), "metrics.kid.group must be one of 'fidel"),
        (put("metrics", "kid", "percent", value=0), "percent must be true or false, got 0"),
        (put("metrics", "kid", "better", value="higher"), "better must be one of"),
        (put("rows", 1, "spec", "sigmas", value="gone"), "spec.sigmas is missing"),
        (put("rows", 1, "cost", "images", value=-1), "cost.images must be a whole number, got -1"),
        (put("comparisons", 1, "rows", value="gone"), r"comparisons\[1\].rows is missing"),
        (put("comparisons", 1, "rows", value=[STUDENT]), "rows must be the names of 2 rows"),
        (put("comparisons", 1, "rows", value=[STUDENT, "x"]), "must be the names of 2 rows"),
        (put("comparisons", 0, "rows", value=[STUDENT, FEW]), "must be the names of 3 rows"),
        (put("grids", 0, "file", value="../x.png"), "is not a file inside"),
        (put("sheets", 0, "file", value="sheets/none.png"), "is not a file inside"),
        (put("curves", 0, "lines", 0, "points", value=None), r"points must be a list, got None"),
    ],
)  # fmt: skip
def test_anything_else_is_one_sentence_with_the_way_out(
    directory: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    path = directory / "evaluation.json"
    before = path.read_text()
    record = json.loads(before)
    change(record)
    try:
        path.write_text(json.dumps(record))
        with pytest.raises(RunError, match=told) as caught:
            read_evaluation(directory)
    finally:
        path.write_text(before)
    assert str(caught.value).endswith("; write it anew with `fewstep eval`")
    assert str(caught.value).startswith(f"{path} is not an evaluation of schema 3: ")


def test_a_file_outside_the_directory_is_refused_though_it_is_there(tmp_path: Path) -> None:
    inner = demo_evaluation(tmp_path / "inner", Invented())
    (tmp_path / "secret.png").write_bytes((inner / "grids" / "fixed.png").read_bytes())
    record = json.loads((inner / "evaluation.json").read_text())
    (inner / "link.png").symlink_to(tmp_path / "secret.png")
    for file in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        record["grids"][0]["file"] = file
        (inner / "evaluation.json").write_text(json.dumps(record))
        with pytest.raises(RunError, match="is not a file inside"):
            read_evaluation(inner)


def test_null_is_undefined_and_absent_is_none(directory: Path) -> None:
    path = directory / "evaluation.json"
    before = path.read_text()
    record = json.loads(before)
    record["rows"][1]["metrics"]["kid"] |= {"value": None, "low": None, "high": None}
    del record["rows"][1]["cost"], record["rows"][2]["spec"]
    try:
        path.write_text(json.dumps(record))
        found = read_evaluation(directory)
    finally:
        path.write_text(before)
    assert math.isnan(found.rows[1].metrics["kid"].value)
    assert found.rows[1].cost is None and found.rows[2].spec is None


def test_what_cannot_be_read_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        collect(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match="is not JSON"):
        collect(tmp_path)
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "config.yaml").write_text("a: [1,\nb")
    with pytest.raises(RunError, match=r"is not YAML: .*restore it"):
        collect(tmp_path)
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(RunError, match="must hold settings by name, got list"):
        collect(tmp_path)


def test_training_is_timed_without_pauses_and_counts_what_is_not_finite() -> None:
    rows = [
        {
            "step": 10,
            "time": 100.0,
            "phase": "loop",
            "seconds_per_step": 0.5,
            "skipped": 0,
            "cpu_seconds_per_step": 0.75,
            "peak_memory_mb": 900,
        },
        {"step": 10, "time": 100.0, "phase": "heads", "gap": 1.0},
        # an hour's pause, then a stretch of 20 steps
        {
            "step": 30,
            "time": 3700.0,
            "phase": "loop",
            "seconds_per_step": 0.25,
            "skipped": 3,
            "cpu_seconds_per_step": 0.5,
            "peak_memory_mb": 800,
        },
        {"step": 30, "time": 3700.0, "phase": "student", "loss": math.nan, "gaps": [1.0, math.inf]},
    ]
    found = training(rows, {"device": "cpu"})
    assert found.seconds == pytest.approx(10 * 0.5 + 20 * 0.25)
    assert (found.steps, found.begun, found.skipped, found.not_finite) == (30, 30, 3, 2)
    assert found.cpu_seconds == pytest.approx(10 * 0.75 + 20 * 0.5)
    assert (found.gpu_seconds, found.peak_memory_mb) == (None, 900)
    assert training(rows, {"device": "cuda"}).gpu_seconds == found.seconds
    untimed = [{"step": 1, "time": 5.0, "loss": 1.0}, {"step": 2, "time": 9.0, "loss": 1.0}]
    assert training(untimed, {}).seconds == 4.0 and training(untimed, {}).begun is None
    bare = training(untimed[:1], {"device": "cpu"})
    assert (bare.seconds, bare.cpu_seconds, bare.peak_memory_mb) == (None, None, None)
    with pytest.raises(RunError, match="logs 'gaps' with 2 values and, at step 40, with 3"):
        training([*rows, {"step": 40, "phase": "student", "gaps": [1, 2, 3]}], {})


def test_strips_are_named_by_their_step() -> None:
    assert step_of(Path("step_000200.png")) == "step 200"
    assert step_of(Path("000000.png")) == "step 0"
    assert step_of(Path("last.png")) == "last"
