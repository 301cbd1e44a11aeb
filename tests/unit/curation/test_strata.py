"""Quotas in closed form, choices that are stable, splits that keep the shares of every kind."""

from __future__ import annotations

from collections import Counter

import pytest

from fewstep.curation.splits import Shares, split
from fewstep.curation.strata import Quota, allocate, chosen, draw, filled, gaps
from fewstep.errors import UserError

A, B, C, D = ("a",), ("b",), ("c",), ("d",)
THERE = {A: 900, B: 100, C: 4, D: 0}


def test_shares_are_in_proportion_to_the_power() -> None:
    """30, 10 and 2 are the square roots; the largest remainders get what rounding leaves."""
    assert allocate(THERE, Quota(total=21, power=0.5)) == {A: 15, B: 5, C: 1, D: 0}
    assert allocate(THERE, Quota(total=40, power=0.5)) == {A: 29, B: 9, C: 2, D: 0}
    assert allocate(THERE, Quota(total=251, power=1.0)) == {A: 225, B: 25, C: 1, D: 0}
    assert allocate(THERE, Quota(total=12, power=0.0)) == {A: 4, B: 4, C: 4, D: 0}
    assert allocate(THERE, Quota()) == THERE


def test_floors_and_caps_hold_and_what_they_take_is_shared_by_the_rest() -> None:
    found = allocate(THERE, Quota(total=200, floor=20, cap=150, power=1.0))
    assert found == {A: 150, B: 46, C: 4, D: 0}
    assert allocate(THERE, Quota(cap=10)) == {A: 10, B: 10, C: 4, D: 0}
    assert sum(allocate(THERE, Quota(total=10**6)).values()) == 1004
    exact = filled({s: 0 for s in THERE}, THERE, {s: n for s, n in THERE.items()}, 502)
    assert exact[A] == pytest.approx(450) and exact[C] == pytest.approx(2)
    with pytest.raises(UserError, match="a floor of 20 asks for 44 prompts of 4 strata"):
        allocate(THERE, Quota(total=40, floor=20))


def test_rounding_loses_no_prompt() -> None:
    many = {(str(i),): 7 + i for i in range(97)}
    for total in (1, 50, 97, 333, 1000):
        found = allocate(many, Quota(total=total))
        assert sum(found.values()) == total
        assert all(0 <= n <= many[s] for s, n in found.items())


@pytest.mark.parametrize(("values", "said"), [
    ({"total": 0}, "quota.total must be >= 1"), ({"floor": 3, "cap": 2}, "a floor is no higher"),
    ({"power": 1.5}, "quota.power must be between 0 and 1"),
])  # fmt: skip
def test_quotas_that_are_none(values: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Quota(**values)


def test_a_choice_does_not_depend_on_the_order_and_changes_little_with_the_list() -> None:
    ids = [f"{i:04x}" for i in range(1000)]
    strata = [("a",) if i % 3 else ("b",) for i in range(1000)]
    wanted = {("a",): 100, ("b",): 50}
    taken = {ids[i] for i in chosen(ids, strata, wanted, seed=0)}
    assert Counter(strata[ids.index(name)] for name in taken) == wanted
    backwards = chosen(ids[::-1], strata[::-1], wanted, seed=0)
    assert backwards == sorted(backwards) and {ids[::-1][i] for i in backwards} == taken
    shorter = {ids[i] for i in chosen(ids[:900], strata[:900], wanted, seed=0)}
    assert len(shorter & taken) >= 130 - 15
    assert {ids[i] for i in chosen(ids, strata, wanted, seed=1)} != taken
    assert draw(0, "a") == draw(0, "a") != draw(1, "a") and 0 <= draw(0, "a") < 1


def test_every_kind_gives_each_split_its_share() -> None:
    ids = [f"{i:05x}" for i in range(20_000)]
    strata = [("big",) if i % 2 else (f"small {i // 2 % 1000}",) for i in range(20_000)]
    found = split(ids, strata, Shares(val=0.05, test=0.1), seed=0)
    big = Counter(name for name, s in zip(found, strata, strict=True) if s == ("big",))
    assert big["test"] in (1000, 1001) and big["val"] in (500, 501)
    small = Counter(name for name, s in zip(found, strata, strict=True) if s != ("big",))
    assert small["test"] == pytest.approx(1000, abs=60)  # ten each: 1 of each, up to the rounding
    each = Counter(s for name, s in zip(found, strata, strict=True) if name == "test")
    assert max(n for s, n in each.items() if s != ("big",)) <= 2
    assert split(ids, strata, Shares(val=0, test=0), seed=0) == ["train"] * len(ids)
    with pytest.raises(UserError, match="together below 1"):
        Shares(val=0.5, test=0.5)


def test_gaps() -> None:
    assert gaps({"a": 5, "b": 0, "c": 2, "d": 0}, 3) == {"b": 3, "d": 3, "c": 1}
