"""Numbers as cells, cards and tables, with the digits that their intervals support."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.unit.report.invented import METRICS, A, B, difference, evaluation, gap, number, row

from fewstep.report.numbers import duration, named, shown, shown_difference, within
from fewstep.report.results import Metric, Number
from fewstep.report.tables import cards, compared, direction, parts, reached, tables


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
    cell, goal, reads, _ = compared(gap(number(0.85, 0.82, 0.9)), rows)
    assert (cell.text, goal, reads) == ("85.0 %", "80 %", "reached")


def test_a_difference_reads_by_the_direction_of_its_metric() -> None:
    more, less = number(1.0, 0.5, 1.5), number(-1.0, -1.5, -0.5)
    metrics = (METRICS["kid"], METRICS["adherence"], METRICS["kid_gap_closed"])
    assert [direction(more, m) for m in metrics] == ["worse", "better", "higher"]
    assert [direction(less, m) for m in metrics] == ["better", "worse", "lower"]
    assert direction(number(1.0, -0.1, 2.0), METRICS["kid"]) == "not told apart"
    bare = [difference("kid", "", number(value)) for value in (1.0, math.nan)]
    closed = [replace(c, metric="kid_gap_closed") for c in bare]
    for c in (bare, closed):
        told = [compared(own, evaluation(A, B)) for own in c]
        assert [reads for _, _, reads, _ in told] == ["no interval", "undefined"]
        assert [own.value for own, *_ in told] == [1.0, None]
    assert reached(number(0.7, 0.6, 0.79), 0.8) == "missed"
    assert reached(number(0.9, 0.7, 0.95), 0.8).startswith("open")
    assert reached(number(0.7, 0.6, 0.95), 0.8).startswith("open")
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
    assert table.repeated == "" and table.column_repeated == ()
    assert [text[-7:] for text in table.row_repeated] == ["4 seeds", "2 seeds"]


def test_the_n_of_each_column_stands_by_its_head_where_columns_differ() -> None:
    kinds = {key: Metric(label=key, group="categories", percent=True) for key in ("one", "two")}
    rows = [row(name, one=Number(1, 0.9, 1, 39, 4, 1), two=Number(1, 0.9, 1, 25, 4, 1))
            for name in "AB"]  # fmt: skip
    (table,) = tables(evaluation(*rows, metrics=kinds))
    assert table.column_repeated == ["39 prompts \u00d7 4 seeds", "25 prompts \u00d7 4 seeds"]
    assert (table.repeated, table.row_repeated) == ("", ())


def test_a_group_of_many_metrics_has_tables_of_equal_width() -> None:
    assert [len(part) for part in parts("abcdefghijkl")] == [6, 6]
    assert [len(part) for part in parts("abcdefghijklmnopq")] == [6, 6, 5]
    assert ["".join(part) for part in parts("abcdefgh")] == ["abcdefgh"] and parts("") == []
    kind = Metric(label="", group="fidelity")
    values = dict.fromkeys("abcdefghi", number(0.1))
    some = replace(A, name="some", metrics={"i": number(0.2)})
    rows = (replace(A, metrics=values), some)
    first, second = tables(evaluation(*rows, metrics=dict.fromkeys(values, kind)))
    assert (first.title, second.title) == ("Fidelity", "Fidelity, continued")
    assert [row.name for row, _ in first.rows] == ["A"]
    assert [(row.name, cells[-1].value) for row, cells in second.rows] == [
        ("A", 0.1),
        ("some", 0.2),
    ]


def test_a_meaning_is_told_once() -> None:
    kid = replace(METRICS["kid"], explained="Distance.")
    other = replace(kid, label="KID (pixels)")
    plain = Metric(label="Spread", group="fidelity", explained="Of pixels.")
    bare = Metric(label="Bare", group="fidelity", better="lower is better")
    metrics = dict(zip("abcd", (kid, other, plain, bare), strict=True))
    values = dict.fromkeys(metrics, number(0.1, 0.0, 0.2))
    (table,) = tables(evaluation(replace(A, metrics=values), metrics=metrics))
    assert table.meanings == {"KID": "Distance. Lower is better.", "Spread": "Of pixels."}


def test_cards_are_on_one_scale_with_the_truth_on_it() -> None:
    low, high = row("L", kid=number(0.1, 0.0, 0.2)), row("M", kid=number(0.5))
    (card,) = cards(evaluation(low, high, metrics={"kid": METRICS["kid"]}))
    # 0 to 0.5 with a margin of 4 % on either side
    assert card.target == pytest.approx(100 * 0.04 / 1.08, abs=0.01)
    assert card.marks[0].at == pytest.approx(100 * 0.24 / 1.08, abs=0.01)
    assert card.marks[0].bar == pytest.approx((100 * 0.04 / 1.08, 100 * 0.4 / 1.08), abs=0.02)
    assert card.marks[1].bar is None and card.marks[1].at == pytest.approx(100 - 3.7, abs=0.01)


def test_words_for_lists_and_times() -> None:
    assert named(["a"]) == "a" and named(["a", "b", "c"]) == "a, b and c"
    assert [within(label) for label in ("Layout diversity", "KID", "")] == [
        "layout diversity", "KID", "",
    ]  # fmt: skip
    assert [duration(s) for s in (0.0605, 31.2, 412, 7200)] == [
        "0.0605 s",
        "31.2 s",
        "6.9 min",
        "2.0 h",
    ]
