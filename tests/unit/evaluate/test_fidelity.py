"""KID against loops, closed forms, torchmetrics and the bias it exists to avoid (trap 18)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import pairwise_linear_similarity

from fewstep.evaluate.fidelity import kid, prompt_kernels
from fewstep.evaluate.statistics import Draws, estimate, gap_closed, prompt_weights

ONES_8 = np.ones((1, 8))


def by_prompt(prompts: int, seeds: int) -> np.ndarray:
    return np.repeat(np.arange(prompts), seeds)


def brute(x: np.ndarray, gx: list[int], y: np.ndarray, gy: list[int]) -> float:
    """The estimator as written in the docstring, over lists of images (repeats allowed)."""

    def average(a: np.ndarray, ga: list[int], b: np.ndarray, gb: list[int]) -> float:
        pairs = [
            (float(u @ v) / len(u) + 1) ** 3
            for u, p in zip(a, ga, strict=True)
            for v, q in zip(b, gb, strict=True)
            if p != q
        ]
        return float(np.mean(pairs))

    return average(x, gx, x, gx) + average(y, gy, y, gy) - 2 * average(x, gx, y, gy)


def test_equals_the_loop_over_pairs_in_any_order_of_images() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 5)), rng.normal(size=(16, 5)) + 0.3
    gx, gy = rng.permutation(by_prompt(8, 3)), by_prompt(8, 2)
    found = kid(prompt_kernels(x, gx, y, gy), ONES_8)[0]
    assert found == pytest.approx(brute(x, list(gx), y, list(gy)), rel=1e-10)


def test_prompts_may_have_different_numbers_of_images_on_either_side() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(20, 5)), rng.normal(size=(16, 5)) + 0.3
    uneven, even = np.append(by_prompt(8, 2), [0, 0, 0, 5]), by_prompt(8, 2)
    for a, ga, b, gb in ((x, uneven, y, even), (y, even, x, uneven)):
        found = kid(prompt_kernels(a, ga, b, gb), ONES_8)[0]
        assert found == pytest.approx(brute(a, list(ga), b, list(gb)), rel=1e-10)


def test_a_resample_equals_the_loop_over_the_drawn_images() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(16, 4)), rng.normal(size=(16, 4)) + 0.5
    index = by_prompt(8, 2)
    weights = prompt_weights(8, rng, 3)
    draws = kid(prompt_kernels(x, index, y, index), weights)
    for weight, draw in zip(weights, draws, strict=True):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(index == p), int(weight[p])) for p in range(8)]
        )
        rows = rows.astype(int)
        g = list(index[rows])
        assert draw == pytest.approx(brute(x[rows], g, y[rows], g), rel=1e-9)


def test_a_slab_boundary_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1100, 3))
    index = rng.integers(0, 8, 1100)
    kernel = (x @ x.T / 3 + 1) ** 3
    sums = np.array(
        [[kernel[np.ix_(index == p, index == q)].sum() for q in range(8)] for p in range(8)]
    )
    np.fill_diagonal(sums, 0)
    np.testing.assert_allclose(prompt_kernels(x, index, x, index).xx, sums, rtol=1e-9)


def test_equals_the_plain_estimator_when_no_prompt_repeats() -> None:
    # oracle: torchmetrics' pairwise products under the estimator of Binkowski et al., eq. 4
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 6)), rng.normal(size=(30, 6)) + 0.2
    found = kid(prompt_kernels(x, np.arange(20), y, 20 + np.arange(30)), np.ones((1, 50)))[0]

    def kernel(a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        products = pairwise_linear_similarity(
            torch.from_numpy(a), torch.from_numpy(b), zero_diagonal=False
        )
        return (products / 6 + 1) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    expected = (
        (xx.sum() - xx.trace()) / (20 * 19)
        + (yy.sum() - yy.trace()) / (30 * 29)
        - 2 * kernel(x, y).mean()
    )
    assert found == pytest.approx(float(expected), rel=1e-10)


def test_known_mean_shift_in_one_dimension() -> None:
    # x ~ N(0, 1), y ~ N(m, 1): (xy + 1)^3 sees the moments 1 to 3, so with E y^k of N(m, 1)
    # KID = 3 (dmu1)^2 + 3 (dmu2)^2 + (dmu3)^2
    m = 0.5
    expected = 3 * m**2 + 3 * (m**2) ** 2 + (m**3 + 3 * m) ** 2
    rng = np.random.default_rng(4)
    found = []
    for _ in range(100):
        x, y = rng.normal(size=(200, 1)), rng.normal(size=(200, 1)) + m
        kernels = prompt_kernels(x, np.arange(200), y, np.arange(200))
        found.append(kid(kernels, np.ones((1, 200)))[0])
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 4 * error
    assert error < 0.1 * expected


def test_shared_prompts_bias_the_plain_estimator_and_not_ours() -> None:
    prompts, seeds, d, runs = 24, 4, 8, 150
    rng = np.random.default_rng(5)
    index = by_prompt(prompts, seeds)
    ours, plain = [], []
    own = np.arange(prompts * seeds)
    for _ in range(runs):
        centre = rng.normal(size=(prompts, d))  # what the images of a prompt have in common
        x, y = (centre[index] + 0.5 * rng.normal(size=(len(index), d)) for _ in range(2))
        ours.append(kid(prompt_kernels(x, index, y, index), np.ones((1, prompts)))[0])
        apart = prompt_kernels(x, own, y, own + len(own))
        plain.append(kid(apart, np.ones((1, 2 * len(own))))[0])
    error = np.std(ours) / np.sqrt(runs)
    assert abs(np.mean(ours)) < 3.5 * error
    assert np.mean(plain) < -20 * error


def noisy(
    rng: np.random.Generator, shift: float, centre: np.ndarray, index: np.ndarray
) -> np.ndarray:
    return centre[index] + shift + 0.5 * rng.normal(size=(len(index), centre.shape[1]))


def three(seed: int, shifts: tuple[float, float, float]) -> list[Draws]:
    """KID draws of three models that are shifted from the truth, under one set of weights."""
    rng = np.random.default_rng(seed)
    index, centre = by_prompt(64, 4), rng.normal(size=(64, 6))
    weights = prompt_weights(64, rng, 400)
    truth = noisy(rng, 0.0, centre, index)
    models = [noisy(rng, s, centre, index) for s in shifts]
    return [kid(prompt_kernels(m, index, truth, index), weights) for m in models]


def test_gap_closed_is_0_at_the_start_1_at_the_end_and_paired() -> None:
    start, end, student = three(6, (0.6, 0.1, 0.25))
    assert gap_closed(start, end, start)[0] == 0.0
    assert gap_closed(start, end, end)[0] == 1.0
    found = estimate(gap_closed(start, end, student), 64, 4)
    assert 0.5 < found.low < found.value < found.high < 1.0
    unpaired = gap_closed(start, end, np.concatenate([student[:1], student[:0:-1]]))
    assert found.high - found.low < np.ptp(np.quantile(unpaired[1:], [0.025, 0.975]))


def test_no_interval_where_there_is_no_gap() -> None:
    start, end, student = three(7, (0.1, 0.1, 0.1))
    assert np.isnan(estimate(gap_closed(start, end, student), 64, 4).high)


def test_too_few_prompts_and_bad_features_are_refused() -> None:
    x, index = np.zeros((14, 3)), by_prompt(7, 2)
    with pytest.raises(ValueError, match="need at least 8 prompts, the model has 7"):
        prompt_kernels(x, index, x, index)
    x, index = np.zeros((16, 3)), by_prompt(8, 2)
    with pytest.raises(ValueError, match="16 features but 14"):
        prompt_kernels(x, index[:14], x, index)
    with pytest.raises(ValueError, match="finite"):
        prompt_kernels(np.full_like(x, np.nan), index, x, index)
    with pytest.raises(ValueError, match="widths 3 and 2"):
        prompt_kernels(x, index, x[:, :2], index)
