"""Intervals must cover, compare in pairs, and know Student's t."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep.evaluate.statistics import (
    Estimate,
    estimate,
    estimate_share,
    estimate_share_difference,
    mean,
    over_runs,
    prompt_weights,
    student_t,
)


def test_row_zero_is_the_plain_mean_and_nan_is_left_out() -> None:
    values = np.array([1.0, 3.0, np.nan, 8.0])
    index = np.array([0, 0, 1, 2])
    draws = mean(values, index, prompt_weights(3, np.random.default_rng(0)))
    assert draws[0] == pytest.approx(4.0)
    assert draws.shape == (1001,)


def test_interval_covers_when_seeds_of_a_prompt_are_correlated() -> None:
    prompts, seeds, runs = 50, 4, 300
    rng = np.random.default_rng(1)
    index = np.repeat(np.arange(prompts), seeds)
    covered = narrow = 0
    for _ in range(runs):
        values = rng.normal(size=prompts)[index] + 0.5 * rng.normal(size=prompts * seeds)
        found = estimate(mean(values, index, prompt_weights(prompts, rng, 300)), prompts, seeds)
        covered += found.low <= 0 <= found.high
        # the same with every image taken for independent: what a naive interval would do
        half = 1.96 * values.std() / math.sqrt(len(values))
        narrow += abs(values.mean()) <= half
    assert 0.90 <= covered / runs <= 0.98
    assert narrow / runs < 0.80


def test_paired_differences_are_sharper_than_unpaired_ones() -> None:
    rng = np.random.default_rng(2)
    index, hard = np.arange(60), rng.normal(size=60)
    a, b = hard + 0.1 * rng.normal(size=60), hard + 0.1 * rng.normal(size=60)
    weights = prompt_weights(60, rng)
    paired = mean(a, index, weights) - mean(b, index, weights)
    unpaired = mean(a, index, weights) - mean(b, index, prompt_weights(60, rng))
    assert paired[1:].std() < 0.2 * unpaired[1:].std()


@pytest.mark.parametrize(
    ("df", "quantile"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_student_t_against_the_printed_table(df: int, quantile: float) -> None:
    assert student_t(df) == pytest.approx(quantile, abs=1e-4)


def test_over_runs_is_the_t_interval() -> None:
    found = over_runs([0.7, 0.8, 0.9])
    half = 4.30265 * 0.1 / math.sqrt(3)
    assert (found.value, found.low, found.high, found.n_runs) == pytest.approx(
        (0.8, 0.8 - half, 0.8 + half, 3), abs=1e-5
    )
    assert math.isnan(over_runs([0.7]).low)


def test_an_estimate_survives_json_and_nan_becomes_null() -> None:
    known = Estimate(0.5, 0.4, 0.6, 10, 4)
    assert Estimate.from_json(known.to_json()) == known
    assert Estimate(math.nan, math.nan, math.nan, 10, 4).to_json()["low"] is None
    assert Estimate.from_json(Estimate(0.0, 0.0, 0.0, 1, 1).to_json()).value == 0.0


def test_undefined_draws_give_no_interval() -> None:
    draws = np.ones(101)
    draws[1:11] = np.nan
    assert math.isnan(estimate(draws, 10, 1).low)
    assert estimate(np.ones(101), 10, 1).low == 1.0


def test_one_prompt_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="n_prompts must be at least 2"):
        prompt_weights(1, np.random.default_rng(0))


def test_a_share_of_all_or_none_still_has_an_interval() -> None:
    # exact binomial: 20 of 20 successes leave 0.8316 as the lower 97.5 % bound
    every = estimate_share(np.ones(101), 20, 4)
    assert (every.low, every.high) == pytest.approx((0.8316, 1.0), abs=1e-4)
    none = estimate_share(np.zeros(101), 20, 4)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1684), abs=1e-4)
    half = np.linspace(0.4, 0.6, 101)
    assert estimate_share(half, 20, 4) == estimate(half, 20, 4)


def test_a_difference_of_shares_of_all_or_none_has_an_interval() -> None:
    ones, zeros, half = np.ones(101), np.zeros(101), np.linspace(0.4, 0.6, 101)
    # 20 of 20 leave 0.8316 and none of 20 leave 0.1684, as above
    for a, b, value, low, high in (
        (ones, ones, 0, -0.1684, 0.1684), (zeros, zeros, 0, -0.1684, 0.1684),
        (ones, zeros, 1, 0.6632, 1), (zeros, ones, -1, -1, -0.6632),
    ):  # fmt: skip
        found = estimate_share_difference(a, b, 20, 4)
        assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-4)
        assert (found.n_prompts, found.n_seeds) == (20, 4)
    # one of them moves, and so does the difference
    assert estimate_share_difference(half, ones, 20, 4) == estimate(half - ones, 20, 4)
