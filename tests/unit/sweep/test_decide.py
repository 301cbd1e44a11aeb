"""When a trial is better: values by closed form, and what is never said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep.evaluate.statistics import mean, prompt_weights, student_t
from fewstep.sweep.decide import (
    confirmed,
    curse,
    difference,
    is_better,
    is_worse,
    level,
    pooled,
)

P = 32
WEIGHTS = prompt_weights(P, np.random.default_rng(0), 500)
SIZE = (P, 2)


def draws(*shifts: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A row for each training seed: a wide spread that all trials share, a shift, and noise."""
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(99).normal(0, 5, P)
    values = [common + shift + noise * rng.normal(size=P) for shift in shifts]
    return np.stack([mean(own, np.arange(P), WEIGHTS) for own in values])


def test_identical_trials_are_never_better_or_worse() -> None:
    own = draws(1.0, 1.0)
    gain = difference(own, own.copy(), *SIZE)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    for better in ("lower", "higher"):
        assert not is_better(gain, better) and not is_worse(gain, better)


def test_a_shift_is_seen_through_the_spread_of_the_prompts() -> None:
    gain = difference(draws(0.9, 0.8), draws(1.0, 1.0, seed=1), *SIZE)
    assert gain.value == pytest.approx(-0.15)
    # with no noise of their own the seeds alone spread: each replicate draws two of -0.1 and -0.2
    assert (gain.low, gain.high) == (pytest.approx(-0.2), pytest.approx(-0.1))
    assert gain.n_runs == 2
    assert is_better(gain, "lower") and is_worse(gain, "higher")
    assert not is_better(gain, "higher") and not is_worse(gain, "lower")


def test_one_seed_is_never_better_and_may_be_worse() -> None:
    gain = difference(draws(0.0), draws(1.0), *SIZE)
    assert gain.high < 0 and not is_better(gain, "lower")
    worse = difference(draws(1.0), draws(0.0), *SIZE)
    assert is_worse(worse, "lower")
    assert math.isnan(confirmed(draws(0.0), draws(1.0), *SIZE).high)


def test_seeds_that_disagree_decide_nothing() -> None:
    gain = difference(draws(-1.0, 0.5), draws(0.0, 0.0), *SIZE)
    assert gain.value == pytest.approx(-0.25)
    assert not is_better(gain, "lower") and not is_worse(gain, "lower")


def test_noise_is_rarely_called_better() -> None:
    """Trials that differ in nothing but the noise of prompts: by far fewer than half."""
    found = [
        difference(draws(0, 0, noise=1.0, seed=2 * i), draws(0, 0, noise=1.0, seed=2 * i + 1),
                   *SIZE)
        for i in range(200)
    ]  # fmt: skip
    assert sum(is_better(gain, "lower") for gain in found) <= 12


def test_what_is_confirmed_holds_over_seeds_by_students_t() -> None:
    shifts = (0.9, 0.7, 0.8)
    gain = confirmed(draws(*shifts), draws(1.0, 1.0, 1.0), *SIZE)
    half = student_t(2) * 0.1 / math.sqrt(3)
    assert gain.value == pytest.approx(-0.2)
    assert (gain.low, gain.high) == (pytest.approx(-0.2 - half), pytest.approx(-0.2 + half))
    assert not is_better(gain, "lower")  # 0.248 is more than 0.2
    five = confirmed(draws(0.9, 0.7, 0.8, 0.8, 0.8), draws(*(1.0,) * 5), *SIZE)
    assert is_better(five, "lower")


def test_the_curse_is_the_sweep_minus_afresh() -> None:
    found = curse(draws(1.0, 1.2), draws(1.5, 1.5, 1.5), *SIZE)
    assert found.value == pytest.approx(-0.4)
    assert (found.low, found.high) == (pytest.approx(-0.5), pytest.approx(-0.3))
    assert found.n_runs == 5


def test_pooling_is_a_mean_that_depends_on_the_number_of_seeds_alone() -> None:
    own = draws(1.0, 3.0)
    assert pooled(own)[0] == pytest.approx(own[:, 0].mean())
    assert np.array_equal(pooled(own), pooled(own.copy()))
    assert np.allclose(pooled(own) - pooled(own + 1), -1)
    assert level(own, *SIZE).n_runs == 2
    with pytest.raises(ValueError, match="a row for each training seed"):
        pooled(own[:0])
    with pytest.raises(ValueError, match="the same seeds and resamples"):
        difference(own, own[:1], *SIZE)


def test_shares_at_an_end_have_no_interval_of_zero_width() -> None:
    none, every = np.zeros((2, 501)), np.ones((2, 501))
    assert level(none, *SIZE, share=True).high == pytest.approx(1 - 0.025 ** (1 / P))
    gain = difference(none, none, *SIZE, share=True)
    assert gain.low < 0 < gain.high
    assert is_better(difference(every, none, *SIZE, share=True), "higher")
