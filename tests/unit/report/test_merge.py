"""Several runs on one page: what is shared appears once, what is not says whose it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report.demo_run import FEW, FULL, PROMPTS, STUDENT, Invented, demo_evaluation

from fewstep.report.collect import RunRecord
from fewstep.report.configs import differences, side_by_side
from fewstep.report.merge import collect_all, distinct, merge, warnings
from fewstep.report.results import Metric, Number
from fewstep.runs import RunError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "a": demo_evaluation(root / "a", Invented()),
        "b": demo_evaluation(root / "b", Invented(seed=1, closed=0.4)),
        "seeds": demo_evaluation(root / "seeds", Invented(seed=2, seeds=(0, 1))),
        "prompts": demo_evaluation(root / "prompts", Invented(seed=3, prompts=PROMPTS[:2])),
    }


def records(runs: dict[str, Path], *names: str) -> list[RunRecord]:
    return collect_all([runs[name] for name in names])


def test_rows_of_the_same_model_and_the_truth_appear_once(runs: dict[str, Path]) -> None:
    found = merge(records(runs, "a", "b"))
    assert [(row.name, row.run) for row in found.rows] == [
        ("True pictures", ""), (FULL, ""), (FEW, ""), (STUDENT, "a"), (STUDENT, "b"),
    ]  # fmt: skip
    # a grid, sheets and curves of equal content are shared as well, and so are comparisons
    assert [grid.run for grid in found.grids] == [""]
    assert len(found.sheets) == 6 and {sheet.picture.run for sheet in found.sheets} == {""}
    assert [list(curve.lines) for curve in found.curves] == [["Teacher", "Student"]] * 2
    assert [(c.metric, c.run) for c in found.comparisons] == [
        ("kid_gap_closed", "a"), ("adherence", ""), ("layout_diversity", ""),
        ("kid_gap_closed", "b"),
    ]  # fmt: skip
    assert [note.partition(":")[0] for note in found.notes] == ["a", "b"]


def test_a_line_of_one_run_alone_says_whose_it_is(runs: dict[str, Path]) -> None:
    a, b = records(runs, "a", "b")
    over_steps, against = b.evaluation.curves
    own = {**over_steps.lines, "Student": over_steps.lines["Student"][:2]}
    other = [replace(over_steps, lines=own), replace(against, x="another axis")]
    found = merge([a, replace(b, evaluation=replace(b.evaluation, curves=other))]).curves
    lines = {name: len(points) for name, points in found[0].lines.items()}
    assert lines == {"Teacher": 5, "Student, a": 5, "Student, b": 2}
    assert [curve.x for curve in found] == ["steps", "layout diversity", "another axis"]


def test_other_seeds_are_other_rows_and_so_is_their_truth(runs: dict[str, Path]) -> None:
    found = merge(records(runs, "a", "b", "seeds"))
    assert [(row.role, row.run) for row in found.rows] == [
        ("truth", "a, b"), ("teacher_full", "a, b"), ("teacher_few", "a, b"), ("student", "a"),
        ("student", "b"), ("truth", "seeds"), ("teacher_full", "seeds"),
        ("teacher_few", "seeds"), ("student", "seeds"),
    ]  # fmt: skip


def test_the_same_row_with_other_numbers_is_not_merged(runs: dict[str, Path]) -> None:
    first, second = records(runs, "a", "b")
    own = second.evaluation
    full = own.rows[1]
    kid = Number(0.9, 0.8, 1.0, 128, 4, 1)
    changed = replace(full, metrics={**full.metrics, "kid": kid})
    second = replace(second, evaluation=replace(own, rows=[changed]))
    assert [row.run for row in merge([first, second]).rows if row.role == "teacher_full"] == [
        "a",
        "b",
    ]
    # what only one of them has measured is united
    fewer = replace(full, metrics={"adherence": full.metrics["adherence"]}, cost=None)
    first = replace(first, evaluation=replace(first.evaluation, rows=[fewer]))
    second = replace(second, evaluation=replace(own, rows=[full]))
    (row,) = merge([first, second]).rows
    assert row.run == "" and row.metrics.keys() == full.metrics.keys() and row.cost == full.cost


def test_unpaired_numbers_are_warned_of(runs: dict[str, Path]) -> None:
    assert warnings(records(runs, "a", "b")) == []
    assert warnings(records(runs, "a")) == []
    assert warnings(records(runs, "a", "b", "seeds")) == [
        "The numbers are not paired.", "seeds has other seeds than a.",
    ]  # fmt: skip
    assert warnings(records(runs, "a", "prompts", "seeds")) == [
        "The numbers are not paired.", "prompts has other prompts than a.",
        "seeds has other seeds than a.",
    ]  # fmt: skip


def test_pictures_of_other_sizes_and_students_that_draw_otherwise_are_told(
    runs: dict[str, Path],
) -> None:
    def changed(record: RunRecord, **values: Any) -> RunRecord:
        rows = [
            replace(row, spec=row.spec and replace(row.spec, **values))
            if row.role == "student" else row
            for row in record.evaluation.rows
        ]  # fmt: skip
        return replace(record, evaluation=replace(record.evaluation, rows=rows))

    a, b = records(runs, "a", "b")
    paired, ways = "The numbers are not paired.", "The students do not draw in one way."
    for told, head, values in (
        ("sizes of pictures", paired, {"width": 32}), ("sigma grids", ways, {"sigmas": (1.0, 0.0)}),
        ("samplers", ways, {"sampler": "renoise"}), ("guidance", ways, {"guidance": 3.0}),
    ):  # fmt: skip
        assert warnings([a, changed(b, **values)]) == [head, f"b has other {told} than a."]
    two = warnings([a, *(replace(changed(b, guidance=3.0), name=name) for name in "xy")])
    assert two == [ways, "x and y have other guidance than a."]


def test_one_run_is_left_as_it_is(runs: dict[str, Path]) -> None:
    (record,) = records(runs, "a")
    assert merge([record]) is record.evaluation


def test_questions_that_differ_are_not_chosen_from(runs: dict[str, Path]) -> None:
    a, b = records(runs, "a", "b")
    assert merge([a, b]).question == a.evaluation.question
    b = replace(b, evaluation=replace(b.evaluation, question="Why?"))
    assert merge([a, b]).question == "How do these runs compare?"


def test_names_are_as_long_as_they_must_be(runs: dict[str, Path]) -> None:
    assert distinct([Path("/x/a/run"), Path("/x/b/other")]) == ["run", "other"]
    assert distinct([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"]
    with pytest.raises(RunError, match="is given twice"):
        collect_all([runs["a"], runs["b"], runs["a"] / "." / ""])


def test_settings_are_told_apart_from_the_first() -> None:
    first = {"seed": "0", "optim.lr": "0.1", "old": "1"}
    second = {"seed": "0", "optim.lr": "0.2", "new": "2"}
    found = {s.name: list(s.values) for s in differences([first, second, first])}
    assert found == {
        "optim.lr": [("0.1", False), ("0.2", True), ("0.1", False)],
        "old": [("1", False), ("not set", True), ("1", False)],
        "new": [("not set", False), ("2", True), ("not set", False)],
    }
    assert [s.name for s in side_by_side([first, second])] == ["seed", "optim.lr", "old", "new"]
    assert differences([first]) == []


def test_a_target_that_differs_is_nobodys(runs: dict[str, Path]) -> None:
    a, b = records(runs, "a", "b")

    def with_target(target: float | None) -> RunRecord:
        vendi = Metric(label="Vendi", group="diversity", better="as the truth", target=target)
        return replace(b, evaluation=replace(b.evaluation, metrics={"vendi": vendi}))

    first = with_target(2.9)
    assert merge([first, with_target(2.9)]).metrics["vendi"].target == 2.9
    for other in (3.1, None):
        assert merge([first, with_target(other)]).metrics["vendi"].target is None
    assert merge([a, first]).metrics["vendi"].target == 2.9
    assert merge([a, first]).metrics["kid"] == a.evaluation.metrics["kid"]
