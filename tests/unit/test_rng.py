import pytest
import torch
from torch.testing import assert_close

from fewstep.rng import Rng, seed_of

IDS = ["a", "b", "c", "d"]


def rows(ids, seed=0, step=3, phase="heads"):
    r = Rng(seed, step, phase, ids)
    return torch.cat([r.randn(5), r.rand(5)], dim=1)


def test_a_sample_draws_the_same_in_any_batch_and_order():
    whole = rows(IDS)
    assert torch.equal(torch.cat([rows(["a"]), rows(["b", "c", "d"])]), whole)
    assert torch.equal(rows(IDS[::-1]).flip(0), whole)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"step": 4}, {"phase": "student"}])
def test_each_part_of_the_key_changes_the_stream(changed):
    assert not torch.isclose(rows(IDS), rows(IDS, **changed)).any()


def test_samples_differ_and_calls_continue_the_stream():
    r = Rng(0, 0, "p", IDS)
    first, second = r.randn(5), r.randn(5)
    assert not torch.isclose(first, second).any()
    assert not torch.isclose(first[0], first[1]).any()


def test_draws_are_standard():
    r = Rng(0, 0, "p", range(500))
    normal, uniform = r.randn(40), r.rand(40)
    assert_close(normal.mean(), torch.tensor(0.0), atol=0.03, rtol=0)
    assert_close(normal.std(), torch.tensor(1.0), atol=0.03, rtol=0)
    assert_close(uniform.mean(), torch.tensor(0.5), atol=0.01, rtol=0)
    assert uniform.min() >= 0 and uniform.max() < 1


def test_duplicate_ids_are_refused():
    with pytest.raises(ValueError, match="must differ"):
        Rng(0, 0, "p", ["a", "b", "a"])


def test_batch_of_another_length_is_refused():
    with pytest.raises(ValueError, match="batch of 3 rows"):
        Rng(0, 0, "p", IDS).randn_like(torch.zeros(3, 2))


def test_shared_draws_ignore_the_samples():
    a = torch.rand(3, generator=Rng(0, 0, "p", ["a"]).shared("x"))
    assert torch.equal(a, torch.rand(3, generator=Rng(0, 0, "p", ["b"]).shared("x")))
    assert not torch.equal(a, torch.rand(3, generator=Rng(0, 0, "p", ["a"]).shared("y")))


def test_seeds_depend_on_order_type_and_borders():
    parts = [("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), (1, 2), ("1", 2), (12,)]
    assert len({seed_of(*p) for p in parts}) == len(parts)
