"""What repeats an earlier prompt is left out, and what is left out repeats one that is kept."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.curation.duplicates import exact, near
from fewstep.curation.leaks import Guard
from fewstep.curation.likeness import jaccard, signatures

LONG = "a red bus on a narrow street in the rain seen from above with many small details"


def of_near(keys: list[str], threshold: float = 0.8) -> list[int]:
    return near(keys, signatures(keys), threshold).of.tolist()


@pytest.mark.fault(19)
def test_the_first_of_equal_keys_is_kept() -> None:
    found = exact(["a", "b", "a", "a", "b", "c"])
    assert found.of.tolist() == [-1, -1, 0, 0, 1, -1]
    assert found.kept.tolist() == [True, True, False, False, False, True]


def test_what_nearly_repeats_is_left_out() -> None:
    close, far = LONG.replace("red", "blue"), LONG.replace("red bus on a narrow", "fox in a green")
    keys = [LONG, "a fox", close, far, LONG + " x"]
    assert jaccard(LONG, close) >= 0.8 > jaccard(LONG, far)
    assert of_near(keys) == [-1, -1, 0, -1, 0]
    found = near(keys, signatures(keys), 0.8)
    assert found.likeness[2] == np.float32(jaccard(LONG, close)) and found.likeness[0] == 1
    assert of_near(keys, 0.999) == [-1] * 5


def test_a_chain_does_not_leave_out_what_repeats_nothing_that_is_kept() -> None:
    words = LONG.split()
    chain = [LONG]
    for i in (2, 9, 13, 16):
        words[i] = "zzzz"
        chain.append(" ".join(words))
    found = of_near(chain, 0.7)
    assert found[1] == 0
    for later, earlier in enumerate(found):
        if earlier >= 0:
            assert found[earlier] == -1 and jaccard(chain[later], chain[earlier]) >= 0.7
    assert -1 in found[1:]


def test_leaks_are_equal_near_or_contained() -> None:
    evaluation = ["a fox", LONG, "a cat on the roof of a tall house", LONG]
    keys = [
        "a fox", "a fox in snow", LONG + " now", "photo of a cat on the roof of a tall house 8k",
        "the roof of a house", "a cat on the roof of a tall houseboat", LONG,
    ]  # fmt: skip
    found = Guard(evaluation, 0.7).leaks(keys, signatures(keys))
    told = [(leak.row, leak.evaluation, leak.how) for leak in found]
    assert told == [
        (0, 0, "equal"), (2, 1, "contained"), (3, 2, "contained"), (5, 2, "nearly equal"),
        (6, 1, "equal"),
    ]  # fmt: skip
    assert found[3].likeness == jaccard(keys[5], evaluation[2]) < 1
    assert Guard([], 0.7).leaks(keys, signatures(keys)) == []
    strict = Guard(evaluation, 0.95).leaks(keys, signatures(keys))
    assert 5 not in {leak.row for leak in strict}


def test_a_common_beginning_of_evaluation_prompts_costs_little() -> None:
    """Anchors are the stretches that few of them have; equal ones are one."""
    evaluation = [f"a photo of a thing called {i} beside another" for i in range(500)] * 2
    guard = Guard(evaluation, 0.9)
    assert len(guard.keys) == 500 and max(map(len, guard.anchors.values())) == 1
    keys = [f"{evaluation[i]} in the evening" for i in (3, 499)]
    assert [leak.evaluation for leak in guard.leaks(keys, signatures(keys))] == [3, 499]
