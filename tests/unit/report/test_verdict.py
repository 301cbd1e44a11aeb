"""The answer is as careful as the intervals, and says what is worse beside what is better."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.unit.report.invented import METRICS, A, B, C, difference, evaluation, gap, number, row

from fewstep.report.losses import is_worse
from fewstep.report.results import Comparison, Metric, Number, Row
from fewstep.report.verdict import Verdict, alike, answer, verdict, verdict_of_several


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.85, 0.81, 0.9, "Yes"),
        (0.85, 0.7, 0.95, "In part: KID goal not settled"),
        (0.75, 0.7, 0.8, "In part: KID goal not settled"),
        (0.5, 0.3, 0.7, "In part: KID goal missed"),
        (0.1, -0.1, 0.3, "Not shown"),
        (-0.5, -0.8, -0.2, "No: it is worse than the teacher at few steps"),
    ],
)
def test_the_answer_is_as_careful_as_the_interval(
    value: float, low: float, high: float, words: str
) -> None:
    closed = gap(number(value, low, high))
    assert answer(closed) == words
    student = row("S", "student")
    assert verdict(evaluation(student, comparisons=(closed,))).answer == words


def test_without_a_goal_the_whole_gap_is_meant() -> None:
    closed = gap(number(0.9, 0.85, 0.95), goal=None)
    assert answer(closed) == "In part: KID goal missed"


FULL = row("T, 20 steps", "teacher_full", adherence=number(0.8, 0.75, 0.85))
FEW = row("T, 4 steps", "teacher_few")
LOST = ("S", FULL.name)


def answered(*losses: Comparison, closed: Number, student: Row, full: Row = FULL) -> Verdict:
    share = gap(closed, rows=(student.name, FEW.name, full.name))
    return verdict(evaluation(student, full, FEW, comparisons=(share, *losses)))


def test_a_closed_gap_does_not_hide_what_is_worse() -> None:
    student = row("S", "student", adherence=number(0.64, 0.59, 0.69))
    minus = difference("adherence", "", number(-0.16, -0.2, -0.12), LOST)
    found = answered(minus, closed=number(0.9, 0.85, 0.95), student=student)
    assert found.answer == "In part: KID goal reached, adherence worse"
    assert found.sentence == (
        "S closes 90.0 % (95 % interval 85.0 to 95.0) of the KID gap between \u201cT, 4 "
        "steps\u201d and \u201cT, 20 steps\u201d; the goal is 80 %. Worse than "
        "\u201cT, 20 steps\u201d: adherence \u221216.0 points (\u221220.0 to \u221212.0). "
        "This is one training run: another may end elsewhere."
    )
    unsettled = answered(minus, closed=number(1.0, 0.6, 1.4), student=student)
    assert unsettled.answer == "In part: KID goal not settled, adherence worse"
    assert answered(minus, closed=number(0.1, -0.1, 0.3), student=student).answer == (
        "Not shown, adherence worse"
    )
    # the same number of another pair of rows is not the student's
    others = difference("adherence", "", number(-0.16, -0.2, -0.12), ("S", FEW.name))
    assert answered(others, closed=number(0.9, 0.85, 0.95), student=student).answer == "Yes"
    # not beyond the interval, of another pair of rows, and of more than one training run
    even = difference("adherence", "", number(-0.16, -0.33, 0.01), LOST)
    other = difference("adherence", "", number(-0.3, -0.35, -0.25))
    runs = Number(0.9, 0.85, 0.95, 64, 4, 5)
    for loss, share in ((even, number(0.9, 0.85, 0.95)), (other, runs)):
        found = answered(loss, closed=share, student=student)
        assert found.answer == "Yes" and "Worse" not in found.sentence
        assert ("one training run" in found.sentence) == (share is not runs)


@pytest.mark.parametrize(
    ("metric", "own", "other", "half", "worse"),
    [
        ("adherence", 0.6, 0.8, 0.05, True),
        ("adherence", 0.8, 0.6, 0.05, False),
        ("kid", 0.2, 0.1, 0.05, True),
        ("kid", 0.1, 0.2, 0.05, False),
        ("spread", 0.8, 0.95, 0.05, True),  # below the truth, and further below than the other
        ("spread", 1.2, 1.05, 0.05, True),
        ("spread", 0.95, 0.8, 0.05, False),  # nearer
        ("spread", 0.97, 1.02, 0.04, False),  # its interval holds the truth
        ("spread", 0.9, 1.2, 0.05, False),  # below the truth, yet nearer to it
        ("vendi", 3.03, 2.9, 0.03, False),  # more than the truth's 2.98, and nearer to it
        ("vendi", 3.2, 3.0, 0.05, True),
        ("plain", 0.1, 0.9, 0.05, False),  # neither way is better
    ],
)  # fmt: skip
def test_worse_is_further_from_the_best_beyond_the_interval(
    metric: str, own: float, other: float, half: float, worse: bool
) -> None:
    spread = Metric(label="", group="diversity", better="1 is the truth", target=1.0)
    vendi = Metric(label="", group="diversity", better="as the truth", target=2.98)
    plain = Metric(label="", group="diversity")
    known = {**METRICS, "spread": spread, "vendi": vendi, "plain": plain}[metric]
    minus = number(own - other, own - other - half, own - other + half)
    sides = (number(own, own - half, own + half), number(other, other - half, other + half))
    assert is_worse(minus, *sides, known) is worse
    assert is_worse(number(own - other), *sides, known) is False  # without an interval


def test_a_gap_that_is_not_known_is_not_dressed_up() -> None:
    student = row("S", "student")
    for estimate, told in ((number(math.nan), "no gap to close"), (number(0.9), "no interval")):
        found = verdict(evaluation(student, comparisons=(gap(estimate),)))
        assert found.answer == "Cannot tell" and told in found.sentence


def test_what_is_worse_is_also_said_where_the_gap_is_not_known() -> None:
    student = row("S", "student", adherence=number(0.64, 0.59, 0.69))
    minus = difference("adherence", "", number(-0.16, -0.2, -0.12), LOST)
    for share in (number(math.nan), number(0.9)):
        found = answered(minus, closed=share, student=student)
        assert found.answer == "Cannot tell"
        assert "Worse than \u201cT, 20 steps\u201d: adherence" in found.sentence


def test_the_gap_of_one_student_of_two_is_its_own() -> None:
    s, t = row("S", "student"), row("T", "student")
    of_s, of_t = (gap(number(0.9, 0.85, 0.95), rows=(name, "few", "full")) for name in "ST")
    assert verdict(evaluation(s, t, comparisons=(of_s, of_t))).answer == "Not comparable"
    found = verdict(evaluation(s, t, comparisons=(of_t,)))
    assert found.answer == "Yes" and found.sentence.startswith("T closes 90.0 %")
    assert verdict(evaluation(s, comparisons=(of_t,))).answer == "Nothing to compare"


def test_without_a_student_the_clearest_paired_difference_is_named() -> None:
    one = difference("kid", "KID, A minus B", number(0.02, 0.01, 0.03))
    clearest = difference("adherence", "adherence, A minus B", number(-0.3, -0.35, -0.25))
    none = difference("kid", "KID, A minus C", number(0.0, -0.1, 0.1))
    found = verdict(evaluation(A, B, comparisons=(one, clearest, none)))
    assert found.answer == "They differ, most clearly in adherence"
    assert found.sentence == (
        "Compared: A and B. Clearest of 3 paired comparisons: adherence, A minus B, "
        "\u221230.0 points (95 % interval \u221235.0 to \u221225.0)."
    )
    found = verdict(evaluation(A, B, comparisons=(none,)))
    assert found.answer == "No difference shown"
    assert "None of 1 paired comparisons" in found.sentence


def test_without_comparisons_intervals_must_not_touch() -> None:
    found = verdict(evaluation(A, B, C))
    assert found.answer == "They differ, most clearly in adherence"
    assert found.sentence == (
        "Compared: A, B and C. Clearest of 6 comparisons: adherence is 50.0 % (45.0 to 55.0) for A "
        "and 80.0 % (75.0 to 85.0) for B; these 95 % intervals over 64 prompts \u00d7 4 seeds do "
        "not touch."
    )
    found = verdict(evaluation(A, C))
    assert found.answer == "No difference shown"
    assert found.sentence == (
        "Compared: A and C. The two intervals touch in each of 2 comparisons."
    )
    bare = row("D", kid=number(0.9))
    assert verdict(evaluation(A, bare)).answer == "Not comparable"


def test_main_metrics_are_looked_at_alone_where_there_are_any() -> None:
    aside = {**METRICS, "blue": Metric(label="Blue", group="quality")}
    a, b = row("A", blue=number(0.1, 0.0, 0.2)), row("B", blue=number(0.9, 0.8, 1.0))
    assert verdict(evaluation(a, b, metrics=aside)).answer == "They differ, most clearly in blue"
    a, b = (replace(r, metrics={**r.metrics, "kid": A.metrics["kid"]}) for r in (a, b))
    assert verdict(evaluation(a, b, metrics=aside)).answer == "No difference shown"


def test_other_prompts_and_other_sizes_are_not_compared() -> None:
    assert alike(A, B) and not alike(A, row("D", prompts="q"))
    assert A.spec is not None
    wide = replace(A, spec=replace(A.spec, width=128))
    assert not alike(A, wide) and not alike(A, replace(A, spec=replace(A.spec, seeds=(0, 1))))
    assert alike(A, replace(A, spec=replace(A.spec, seeds=(7,))))
    assert verdict(evaluation(wide, B)).answer == "Not comparable"
    # without a spec it is not known what was drawn, unless an evaluation has judged both
    bare = replace(A, spec=None)
    assert alike(bare, B) and not alike(bare, replace(B, run="another"))


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
    assert found.sentence.endswith("one training run here: another may end elsewhere.")
    assert verdict_of_several(evaluation(A, s[0], s[2])).answer == "Not comparable"
    assert verdict_of_several(evaluation(A)).answer == "Nothing to compare"
    assert verdict_of_several(evaluation()).answer == "Not measured yet"
