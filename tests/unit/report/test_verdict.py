"""The answer is as careful as the intervals, and numbers have the digits that these support."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from fewstep.report.numbers import duration, named, shown, shown_difference
from fewstep.report.results import Comparison, Evaluation, Metric, Number, Row, Spec
from fewstep.report.tables import cards, compared, direction, reached, tables, tiles
from fewstep.report.verdict import answer, verdict, verdict_of_several

METRICS = {
    "kid": Metric(label="KID", group="fidelity", better="lower is better", target=0.0, main=True),
    "adherence": Metric(
        label="Adherence", group="adherence", better="higher is better", percent=True, main=True
    ),
    "kid_gap_closed": Metric(label="KID gap closed", group="fidelity", percent=True),
}


def number(value: float, low: float = math.nan, high: float = math.nan) -> Number:
    return Number(value, low, high, 64, 4, 1)


def spec(prompts: str) -> Spec:
    return Spec(
        fingerprint="f", n_prompts=64, prompts_hash=prompts, seeds=(0,), sigmas=(1.0, 0.0),
        sampler="euler", guidance=1.0, model_calls=1, height=64, width=64, identity=prompts,
    )  # fmt: skip


def row(
    name: str, role: str = "other", prompts: str = "p", run: str = "", **metrics: Number
) -> Row:
    return Row(name=name, role=role, metrics=metrics, spec=spec(prompts), run=run)


def difference(metric: str, name: str, estimate: Number) -> Comparison:
    return Comparison(name=name, metric=metric, goal=None, number=estimate)


def evaluation(
    *rows: Row, comparisons: tuple[Comparison, ...] = (), metrics: Mapping[str, Metric] = METRICS
) -> Evaluation:
    return Evaluation(rows=rows, comparisons=comparisons, metrics=metrics)


A = row("A", kid=number(0.1, 0.08, 0.12), adherence=number(0.5, 0.45, 0.55))
B = row("B", kid=number(0.1, 0.09, 0.11), adherence=number(0.8, 0.75, 0.85))
C = row("C", kid=number(0.11, 0.09, 0.13), adherence=number(0.52, 0.47, 0.57))


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.85, 0.81, 0.9, "Yes"),
        (0.85, 0.7, 0.95, "Yes, though the interval reaches below the goal"),
        (0.5, 0.3, 0.7, "In part"),
        (0.1, -0.1, 0.3, "Not shown"),
        (-0.5, -0.8, -0.2, "No: it is worse than the teacher at few steps"),
    ],
)
def test_the_answer_is_as_careful_as_the_interval(
    value: float, low: float, high: float, words: str
) -> None:
    closed = Comparison(name="", metric="kid_gap_closed", goal=0.8, number=number(value, low, high))
    assert answer(closed) == words
    student = row("S", "student")
    assert verdict(evaluation(student, comparisons=(closed,))).answer == words


def test_a_gap_that_is_not_known_is_not_dressed_up() -> None:
    student = row("S", "student")
    for estimate, told in ((number(math.nan), "no gap to close"), (number(0.9), "no interval")):
        closed = Comparison(name="", metric="kid_gap_closed", goal=0.8, number=estimate)
        found = verdict(evaluation(student, comparisons=(closed,)))
        assert found.answer == "Cannot tell" and told in found.sentence


def test_gaps_of_two_students_are_not_given_to_the_first() -> None:
    closed = Comparison(name="", metric="kid_gap_closed", goal=0.8, number=number(0.9, 0.85, 0.95))
    s, t = row("S", "student"), row("T", "student")
    assert verdict(evaluation(s, t, comparisons=(closed, closed))).answer == "Not comparable"


def test_without_a_student_the_clearest_paired_difference_is_named() -> None:
    one = difference("kid", "KID, A minus B", number(0.02, 0.01, 0.03))
    clearest = difference("adherence", "adherence, A minus B", number(-0.3, -0.35, -0.25))
    none = difference("kid", "KID, A minus C", number(0.0, -0.1, 0.1))
    found = verdict(evaluation(A, B, comparisons=(one, clearest, none)))
    assert found.answer == "They differ, most clearly in Adherence"
    assert found.sentence == (
        "Compared: A and B. Clearest of 3 paired comparisons: adherence, A minus B, "
        "\u221230.0 points (95 % interval \u221235.0 to \u221225.0)."
    )
    found = verdict(evaluation(A, B, comparisons=(none,)))
    assert found.answer == "No difference shown"
    assert "None of 1 paired comparisons" in found.sentence


def test_without_comparisons_intervals_must_not_touch() -> None:
    found = verdict(evaluation(A, B, C))
    assert found.answer == "They differ, most clearly in Adherence"
    assert (
        "Adherence is 50.0 % (45.0 to 55.0) for A and 80.0 % (75.0 to 85.0) for B" in found.sentence
    )
    found = verdict(evaluation(A, C))
    assert found.answer == "No difference shown" and "A and C" in found.sentence
    bare = row("D", kid=number(0.9))
    assert verdict(evaluation(A, bare)).answer == "Not comparable"


def test_one_model_and_none_are_said_to_be_so() -> None:
    truth = Row(name="true", role="truth", metrics={})
    assert verdict(evaluation(truth)).answer == "Not measured yet"
    assert verdict(evaluation(truth, A)).answer == "Nothing to compare"


def test_several_runs_are_compared_by_their_students_on_the_same_prompts() -> None:
    s = [
        row("S", "student", run=run, prompts=prompts, kid=number(kid, kid - 0.01, kid + 0.01))
        for run, prompts, kid in (("x", "p", 0.1), ("y", "p", 0.2), ("z", "q", 0.9))
    ]
    found = verdict_of_several(evaluation(A, *s))
    assert found.answer == "They differ, most clearly in KID"
    assert "Compared: x, y and z." in found.sentence
    assert "0.100 (0.090 to 0.110) for x and 0.200 (0.190 to 0.210) for y" in found.sentence
    assert verdict_of_several(evaluation(A, s[0], s[2])).answer == "Not comparable"
    assert verdict_of_several(evaluation(A)).answer == "Nothing to compare"
    assert verdict_of_several(evaluation()).answer == "Not measured yet"


def test_digits_follow_the_interval() -> None:
    assert shown(number(0.05231, 0.04713, 0.05749)) == ("0.0523", "0.0471 to 0.0575")
    assert shown(number(0.9571, 0.9361, 0.9781), percent=True) == ("95.7 %", "93.6 to 97.8")
    assert shown(number(-0.00001, -0.3, 0.3)) == ("0.00", "\u22120.30 to 0.30")
    assert shown(number(math.nan)) == ("n/a", "")
    assert shown(number(1.0)) == ("1.00", "")


def test_differences_have_a_sign_and_those_of_shares_are_points() -> None:
    rows = evaluation(A, B)
    minus = difference("adherence", "", number(-0.019, -0.035, -0.004))
    cell, goal, reads, _ = compared(minus, rows)
    assert (cell.text, cell.below) == ("\u22121.9 points", "\u22123.5 to \u22120.4")
    assert (goal, reads, cell.value) == ("", "worse", -0.019)
    assert shown_difference(number(0.5, 0.2, 0.8)) == ("+0.50", "+0.20 to +0.80")
    assert shown_difference(number(0.0, -0.2, 0.2)) == ("0.00", "\u22120.20 to +0.20")
    closed = Comparison(name="", metric="kid_gap_closed", goal=0.8, number=number(0.85, 0.82, 0.9))
    cell, goal, reads, _ = compared(closed, rows)
    assert (cell.text, goal, reads) == ("85.0 %", "80 %", "reached")


def test_a_difference_reads_by_the_direction_of_its_metric() -> None:
    more, less = number(1.0, 0.5, 1.5), number(-1.0, -1.5, -0.5)
    metrics = (METRICS["kid"], METRICS["adherence"], METRICS["kid_gap_closed"])
    assert [direction(more, m) for m in metrics] == ["worse", "better", "higher"]
    assert [direction(less, m) for m in metrics] == ["better", "worse", "lower"]
    assert direction(number(1.0, -0.1, 2.0), METRICS["kid"]) == "not told apart"
    assert direction(number(1.0), METRICS["kid"]) == "no interval"
    assert reached(number(0.7, 0.6, 0.79), 0.8) == "missed"
    assert reached(number(0.9, 0.7, 0.95), 0.8).startswith("open")
    assert reached(number(0.9, 0.7, 0.95), None) == ""


def test_tables_stand_by_group_with_one_number_of_decimals_a_column() -> None:
    fine = row("F", kid=number(0.05, 0.0499, 0.0501), adherence=number(0.9, 0.85, 0.95))
    bare = row("G", adherence=number(0.9, 0.85, 0.95))
    first, second = tables(evaluation(A, fine, bare))
    assert (first.title, second.title) == ("Fidelity", "Adherence")
    assert [[cell.text for cell in cells] for _, cells in first.rows] == [["0.1000"], ["0.0500"]]
    assert [cell.value for _, cells in second.rows for cell in cells] == [0.5, 0.9, 0.9]
    assert first.half and second.half and first.repeated == "64 prompts \u00d7 4 seeds"
    mixed = row("H", kid=Number(0.1, 0.08, 0.12, 64, 2, 1))
    (table,) = tables(evaluation(row("A", kid=A.metrics["kid"]), mixed))
    assert table.repeated == "" and [text[-7:] for text in table.each_repeated] == [
        "4 seeds",
        "2 seeds",
    ]


def test_cards_are_on_one_scale_with_the_truth_on_it() -> None:
    low, high = row("L", kid=number(0.1, 0.0, 0.2)), row("M", kid=number(0.5))
    (card,) = cards(evaluation(low, high, metrics={"kid": METRICS["kid"]}))
    # 0 to 0.5 with a margin of 4 % on either side
    assert card.target == pytest.approx(100 * 0.04 / 1.08, abs=0.01)
    assert card.marks[0].at == pytest.approx(100 * 0.24 / 1.08, abs=0.01)
    assert card.marks[0].bar == pytest.approx((100 * 0.04 / 1.08, 100 * 0.4 / 1.08), abs=0.02)
    assert card.marks[1].bar is None and card.marks[1].at == pytest.approx(100 - 3.7, abs=0.01)


def test_tiles_tell_the_way_from_teacher_to_student() -> None:
    closed = Comparison(name="", metric="kid_gap_closed", goal=0.8, number=number(0.85, 0.82, 0.9))
    right = number(0.5, 0.4, 0.6)
    rows = [row(role, role, adherence=right) for role in ("student", "teacher_few", "teacher_full")]
    found = tiles(evaluation(*rows, comparisons=(closed,)))
    assert [(tile.label, tile.whose) for tile in found] == [
        ("KID gap closed", "student"), ("Adherence", "teacher_full"),
        ("Adherence", "teacher_few"), ("Adherence", "student"),
    ]  # fmt: skip


def test_words_for_lists_and_times() -> None:
    assert named(["a"]) == "a" and named(["a", "b", "c"]) == "a, b and c"
    assert [duration(s) for s in (0.0605, 31.2, 412, 7200)] == [
        "0.0605 s",
        "31.2 s",
        "6.9 min",
        "2.0 h",
    ]
