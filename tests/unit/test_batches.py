"""The order of samples, and how a step is split into micro-batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from fewstep.data.batches import Batches, bucket
from fewstep.families.base import Cond
from fewstep.shapes import Latent


class Numbered:
    """Sample i is the number i everywhere."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.ids = [f"s{i}" for i in range(len(lengths))]
        self.lengths = list(lengths)

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        x0 = torch.tensor([float(i) for i in rows]).reshape(-1, 1, 1, 1)
        return x0, Cond(tuple(torch.full((self.lengths[i], 1), float(i)) for i in rows))


def names(batches: Batches, step: int) -> list[str]:
    return [name for batch in batches(step) for name in batch.ids]


def test_a_step_is_a_function_of_seed_and_step() -> None:
    data = Numbered([5] * 10)
    straight = [names(Batches(data, batch_size=4, seed=1), step) for step in range(6)]
    jumped = Batches(data, batch_size=4, seed=1)
    assert [names(jumped, step) for step in (5, 0, 3)] == [straight[5], straight[0], straight[3]]
    assert names(Batches(data, batch_size=4, seed=2), 0) != straight[0]


def test_every_sample_comes_once_an_epoch_in_a_new_order() -> None:
    data = Numbered([5] * 10)
    batches = Batches(data, batch_size=4, seed=0)
    seen = [name for step in range(5) for name in names(batches, step)]  # two epochs
    assert Counter(seen) == {f"s{i}@{e}": 1 for i in range(10) for e in (0, 1)}
    assert {name[-2:] for name in seen[:10]} == {"@0"}
    assert [n[:-2] for n in seen[:10]] != [n[:-2] for n in seen[10:]]


def test_batch_larger_than_the_data_has_distinct_ids() -> None:
    (batch,) = Batches(Numbered([5] * 3), batch_size=8, seed=0)(0)
    assert len(set(batch.ids)) == 8


def test_ids_latents_and_conditions_stay_together() -> None:
    for batch in Batches(Numbered([5, 40, 70] * 5), batch_size=15, seed=3, micro_batch=2)(1):
        numbers = [float(name[1:].split("@")[0]) for name in batch.ids]
        assert batch.x0.flatten().tolist() == numbers
        assert [t[0, 0].item() for t in batch.cond.tokens] == numbers


def test_trap23_splitting_moves_no_sample_to_another_step() -> None:
    data = Numbered([3, 20, 33, 64, 65, 90] * 6)
    whole = Batches(data, batch_size=12, seed=0)
    for micro_batch in (1, 2, 3, 5):
        split = Batches(data, batch_size=12, seed=0, micro_batch=micro_batch)
        for step in range(4):
            assert sorted(names(split, step)) == sorted(names(whole, step))


def test_micro_batches_hold_one_padded_length() -> None:
    data = Numbered([1, 32, 33, 64, 65, 96] * 8)
    for step in range(6):
        for batch in Batches(data, batch_size=24, seed=0, micro_batch=5)(step):
            assert len(batch) <= 5
            assert len({bucket(len(t)) for t in batch.cond.tokens}) == 1
    assert [bucket(n) for n in (1, 32, 33, 64, 65)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("lengths", [[5] * 7 + [50], [50] * 7 + [5], [5] * 4 + [40] + [80] * 3])
def test_no_micro_batch_of_one_unless_asked_for(lengths: list[int]) -> None:
    """A hinge loss, and misaligned pairs, need two samples."""
    for micro_batch in (2, 3, 8):
        batches = Batches(Numbered(lengths), batch_size=8, seed=0, micro_batch=micro_batch)
        sizes = [len(b) for b in batches(0)]
        assert sum(sizes) == 8
        assert min(sizes) >= 2 and max(sizes) <= max(3, micro_batch)
    alone = Batches(Numbered(lengths), batch_size=8, seed=0, micro_batch=1)(0)
    assert [len(b) for b in alone] == [1] * 8


def test_errors_name_key_and_value() -> None:
    data = Numbered([5] * 4)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        Batches(data, batch_size=0, seed=0)
    with pytest.raises(ValueError, match=r"micro_batch must lie in 1 .. batch_size = 4, got 5"):
        Batches(data, batch_size=4, seed=0, micro_batch=5)
    with pytest.raises(ValueError, match="no samples to train on"):
        Batches(Numbered([]), batch_size=4, seed=0)
    data.ids[1] = data.ids[0]
    with pytest.raises(ValueError, match="sample ids must differ"):
        Batches(data, batch_size=4, seed=0)
