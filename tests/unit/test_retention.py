"""The rule over looks at the student, on made-up rows."""

from __future__ import annotations

import math

import pytest

from fewstep.train.retention import (
    RetentionConfig,
    Row,
    best,
    collapses,
    decided,
    reason_to_stop,
    returns,
)

CFG = RetentionConfig(every=2, tolerance=0.1, collapse=0.5, returns=1)


def rows(*values: tuple[float, float]) -> list[Row]:
    """(concept, loss) at steps 0, 2, 4, ..."""
    return [Row(step=2 * i, concept=c, loss=x) for i, (c, x) in enumerate([(0.0, 0.0), *values])]


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([], 0),
        ([(0.2, 0.05), (0.6, 0.1), (0.9, 0.11)], 4),  # the tolerance itself is within
        ([(-0.3, 0.0)], 2),  # a student that has learnt nothing, and not the model before
        ([(0.9, 0.4), (0.1, 0.2), (0.5, 0.3)], 4),  # none within: the least loss
        ([(0.9, 0.4), (0.1, 0.09)], 4),  # one within beats any that is not
        ([(0.9, 0.6), (0.9, math.nan)], 0),  # collapsed ones are never kept
        ([(0.5, 0.0), (0.5, 0.0)], 2),  # the first of equals
        ([(-0.1, 0.2), (0.6, 0.2), (0.6, 0.2)], 4),  # outside the tolerance, at an equal loss
        ([(math.nan, 0.0), (-0.5, 0.0)], 4),  # a score that is none is the worst
    ],
)
def test_the_best_by_the_rule(values: list[tuple[float, float]], step: int) -> None:
    assert best(rows(*values), CFG).step == step


def test_when_the_run_stops_and_when_it_goes_back() -> None:
    good, bad = (0.5, 0.0), (0.0, 0.7)
    assert reason_to_stop(rows(good, bad), CFG) is None and returns(rows(good, bad), CFG, 20)
    assert not returns(rows(good, bad), CFG, 4)  # nothing would follow
    assert not returns(rows(good, bad, good), CFG, 20)
    said = reason_to_stop(rows(good, bad, bad), CFG)
    assert said is not None and "collapse number 2 at step 6: a loss of 0.700, above" in said
    assert not returns(rows(good, bad, bad), CFG, 20)
    assert reason_to_stop(rows(good, bad, bad, good), CFG) is None  # it is past
    assert collapses(rows(good, bad, (0.0, math.nan)), CFG) == 2
    patient = RetentionConfig(every=2, patience=2)
    assert reason_to_stop(rows(good, (0.4, 0.0)), patient) is None
    said = reason_to_stop(rows(good, (0.4, 0.0), (0.5, 0.0)), patient)
    assert said is not None and "no look since step 2 was better (retention.patience = 2)" in said


def test_what_was_decided_can_be_read_without_the_rule() -> None:
    found = decided(rows((0.5, 0.1), (0.9, 0.7), (0.7, 0.05), (0.9, 0.2), (0, 0.8)), CFG, 12)
    assert found["kept"] == 6 and found["collapsed"] == [4, 10]
    assert found["why"] == (
        "of the looks with a loss within retention.tolerance = 0.1 (2 of 5) it comes nearest to "
        "the concept"
    )
    assert found["returned"] == [{"step": 4, "to": 2, "rate": 0.5}]  # the second time it stops
    assert found["stopped"].startswith("collapse number 2 at step 10")
    none_within = decided(rows((0.5, 0.3), (0.9, 0.7), (0.7, 0.2)), CFG, 6)
    assert none_within["kept"] == 6 and none_within["stopped"] is None
    assert none_within["why"].endswith("have not collapsed (2 of 3) it has the least loss")
    for values, why in (([], "there is no other look yet"), ([(0.9, 0.8)], "has collapsed")):
        found = decided(rows(*values), CFG, 2)
        assert found["kept"] == 0 and found["why"].endswith(why)
        assert found["returned"] == []  # nothing would follow


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": 7}, "prompts must be >= 8"), ({"steps": (0,)}, "steps must be >= 1, got 0"),
        ({"tolerance": 0.6}, "tolerance must lie in 0 .. retention.collapse = 0.5"),
        ({"slower": 0.0}, "slower must lie in"),
    ],
)  # fmt: skip
def test_impossible_values_are_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RetentionConfig(**changes)  # type: ignore[arg-type]
