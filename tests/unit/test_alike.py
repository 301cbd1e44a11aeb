"""Steps of one length: every sample as often as any other of its length, and each step one part."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from tests.unit.test_batches import Numbered, names

from fewstep.data.alike import AlikeOrder, batches_of
from fewstep.data.batches import Batches, bucket
from fewstep.errors import UserError
from fewstep.recipes import RECIPES

LENGTHS = [5] * 9 + [40] * 6 + [70] * 2
"""Of three padded lengths, two of them with enough for batches of 3."""


def batches(seed: int = 0, size: int = 3, lengths: list[int] = LENGTHS) -> Batches:
    data = Numbered(lengths)
    order = AlikeOrder(data.ids, lengths=data.lengths, batch_size=size, seed=seed)
    return Batches(data, batch_size=size, seed=seed, order=order)


def test_a_step_is_one_micro_batch_of_one_length() -> None:
    found = batches()
    for step in range(20):
        [batch] = found(step)
        assert len(batch) == 3
        assert len({bucket(len(tokens)) for tokens in batch.cond.tokens}) == 1


def test_an_epoch_has_every_sample_of_a_length_that_divides_once() -> None:
    found = batches()
    for epoch in range(3):
        seen = [name for step in range(5 * epoch, 5 * epoch + 5) for name in names(found, step)]
        assert sorted(seen) == sorted(f"s{i}@{epoch}" for i in range(15))
    orders = [[names(found, 5 * epoch + i)[0].split("@")[0] for i in range(5)] for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_rare_lengths_come_early_as_often_as_late() -> None:
    """Their hands are full last, on average after three quarters of an epoch."""
    data = Numbered([5] * 90 + [40] * 3)
    order = AlikeOrder(data.ids, lengths=data.lengths, batch_size=3, seed=0)
    assert order.steps == 31
    places = [
        place
        for epoch in range(60)
        for place, rows in enumerate(order.deal(epoch))
        if rows[0] >= 90
    ]
    assert len(places) == 60
    assert 11 < sum(places) / 60 < 19


def test_what_is_left_of_a_length_is_another_one_each_time() -> None:
    found, often = batches(lengths=[5] * 4), Counter[str]()
    for step in range(400):
        often.update(name.partition("@")[0] for name in names(found, step))
    assert sum(often.values()) == 1200
    assert all(250 < n < 350 for n in often.values())


def test_lengths_come_mixed_and_by_seed_and_step_alone() -> None:
    straight = [names(batches(), step) for step in range(12)]
    jumped = batches()
    assert [names(jumped, step) for step in (11, 2, 7)] == [straight[11], straight[2], straight[7]]
    assert [names(batches(seed=1), step) for step in range(12)] != straight
    first = [int(step[0].partition("@")[0][1:]) < 9 for step in straight]
    assert 0 < sum(first) < 12 and first != sorted(first) and first != sorted(first)[::-1]


def test_samples_that_never_come_are_told_and_too_few_of_all_are_refused() -> None:
    notes = list[str]()
    make = partial(batches_of, Numbered(LENGTHS), seed=0, notes=notes)
    found = make(alike=True, batch_size=3, micro_batch=3)
    assert notes == ["data.alike leaves 2 of 17 samples out for good: fewer than data.batch_size "
                     "= 3 have prompts as long"]  # fmt: skip
    assert names(found, 3) == names(batches(), 3)
    with pytest.raises(UserError, match=r"there are 10 samples, the most are 9: set data\.batch"):
        make(alike=True, batch_size=10, micro_batch=10)
    mixed = make(alike=False, batch_size=6, micro_batch=6)
    assert max(len(mixed(step)) for step in range(9)) > 1
    assert all(len(make(alike=True, batch_size=6, micro_batch=6)(step)) == 1 for step in range(9))


def test_a_folder_may_not_ask_for_it() -> None:
    base = RECIPES["dopsd_shapes"]()
    with pytest.raises(ValueError, match=r"data\.alike is true, which is read of samples and"):
        replace(base, data=replace(base.data, alike=True))
