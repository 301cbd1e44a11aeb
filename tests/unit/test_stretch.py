"""Signs that rows give: means over steps, whatever stretches the rows were of."""

from __future__ import annotations

import pytest

from fewstep.train.stretch import Stretch


def heads(step: int, gap: float, std: float = 1.0) -> dict[str, object]:
    return {"step": step, "phase": "heads", "gap": gap, "real_accuracy": 0.9, "fake_accuracy": 0.7,
            "x0_hat_std": std, "x0_std": 2.0, "real_accuracy_by_head": [0.1, 0.2]}  # fmt: skip


def loop(step: int, skipped: int = 0) -> dict[str, object]:
    return {"step": step, "phase": "loop", "skipped": skipped}


def student(step: int) -> dict[str, object]:
    return {"step": step, "phase": "student", "loss": 1.0}


def heard(found: Stretch, *rows: dict[str, object]) -> Stretch:
    for row in rows:
        found.hear(row)
    return found


def test_a_row_counts_for_its_steps() -> None:
    begun = Stretch(begun=True)
    found = heard(begun, heads(10, 1.0), heads(12, 4.0, std=3.0), loop(12)).values(12)
    assert found["gap"] == pytest.approx((10 * 1.0 + 2 * 4.0) / 12)
    assert found["spread"] == pytest.approx((10 * 1.0 + 2 * 3.0) / 12 / 2)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["skipped"] == 0


def test_heads_are_judged_once_the_student_has_begun() -> None:
    before = heard(Stretch(), heads(10, 1.5), student(10), loop(10))
    assert set(before.values(10)) == {"skipped", "spread"}
    after = heard(before.next(10), heads(20, 1.5))
    assert after.values(20)["gap"] == 1.5
    assert "gap" in heard(after.next(20), heads(30, 1.0)).values(30)


def test_steps_that_did_not_count_are_those_of_the_stretch() -> None:
    first = heard(Stretch(), loop(10, skipped=1))
    assert first.values(10)["skipped"] == pytest.approx(0.1)
    assert heard(first.next(10), loop(20, skipped=3)).values(20)["skipped"] == pytest.approx(0.2)
    assert Stretch().values(0) == {}


def test_a_run_that_goes_on_hears_what_it_had_heard() -> None:
    rows = [heads(10, 1.0), student(10), loop(10, 1), heads(20, 2.0), loop(20, 1),
            heads(25, 3.0), loop(25, 2)]  # fmt: skip
    straight = heard(heard(Stretch(), *rows[:5]).next(20), *rows[5:])
    assert Stretch.of(rows, 20) == straight
    assert straight.values(25) == {
        "skipped": 0.2, "gap": 3.0, "accuracy": pytest.approx(0.8), "spread": 0.5
    }  # fmt: skip
    assert Stretch.of(rows[:5], 20) == heard(Stretch(), *rows[:5]).next(20)
    assert Stretch.of([], 0) == Stretch()
