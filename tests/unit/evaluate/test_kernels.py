"""The standard estimator and CMMD against loops and closed forms, on the kernels that KID uses."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.evaluate.fidelity import cmmd, cmmd_kernels, kid, kid_standard, prompt_kernels
from fewstep.evaluate.statistics import prompt_weights

ONES_8 = np.ones((1, 8))


def by_prompt(prompts: int, seeds: int) -> np.ndarray:
    return np.repeat(np.arange(prompts), seeds)


def standard(x: np.ndarray, gx: list[int], y: np.ndarray, gy: list[int]) -> float:
    """All pairs but an image with itself; gx and gy number the images of a side here."""

    def average(a: np.ndarray, ga: list[int], b: np.ndarray, gb: list[int]) -> float:
        kernel = (a @ b.T / a.shape[1] + 1) ** 3
        return float(kernel[np.not_equal.outer(ga, gb)].mean())

    none = [-1] * len(y)
    return average(x, gx, x, gx) + average(y, gy, y, gy) - 2 * average(x, gx, y, none)


def test_the_standard_estimator_takes_every_pair_of_two_images() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(24, 5)), rng.normal(size=(17, 5)) + 0.3
    gx, gy = rng.permutation(by_prompt(8, 3)), np.append(by_prompt(8, 2), 3)
    found = kid_standard(prompt_kernels(x, gx, y, gy), ONES_8)[0]
    expected = standard(x, list(range(24)), y, list(range(17)))
    assert found == pytest.approx(expected, rel=1e-10)


def test_a_resample_of_the_standard_estimator_pairs_no_copies_of_a_prompt() -> None:
    # the drawn prompts one by one: pairs of two prompts, and pairs within one drawn prompt
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(16, 4)), rng.normal(size=(24, 4)) + 0.5
    gx, gy = by_prompt(8, 2), by_prompt(8, 3)
    weights = prompt_weights(8, rng, 3)
    draws = kid_standard(prompt_kernels(x, gx, y, gy), weights)
    for weight, draw in zip(weights, draws, strict=True):
        drawn = np.repeat(np.arange(8), weight.astype(int))

        def average(
            a: np.ndarray, ga: np.ndarray, b: np.ndarray, gb: np.ndarray, drawn: np.ndarray = drawn
        ) -> float:
            kernel = (a @ b.T / 4 + 1) ** 3
            if a is b:
                np.fill_diagonal(kernel, np.nan)
            values = [
                kernel[np.ix_(ga == p, gb == q)].ravel()
                for i, p in enumerate(drawn)
                for j, q in enumerate(drawn)
                if p != q or i == j
            ]
            return float(np.nanmean(np.concatenate(values)))

        expected = average(x, gx, x, gx) + average(y, gy, y, gy) - 2 * average(x, gx, y, gy)
        assert draw == pytest.approx(expected, rel=1e-9)


def test_the_bias_of_the_standard_estimator_is_the_closed_form() -> None:
    # linear features, so that the mean kernel of one prompt and of two prompts is known exactly:
    # one dimension, a prompt's centre is +1 or -1, no noise: k = 8 for equal centres, 0 otherwise
    prompts, seeds = 8, 3
    centre = np.array([1.0, -1.0] * 4)[by_prompt(8, 3)][:, None]
    index = by_prompt(prompts, seeds)
    found = kid_standard(prompt_kernels(centre, index, centre, index), ONES_8)[0]
    same, different = 8.0, 8.0 * 3 / 7
    factor = (prompts - 1) / (prompts * (prompts * seeds - 1))
    assert found == pytest.approx(-2 * (same - different) * factor, rel=1e-12)
    assert kid(prompt_kernels(centre, index, centre, index), ONES_8)[0] == pytest.approx(0)


def test_cmmd_equals_the_loop_over_pairs_of_unit_vectors() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(16, 5)), rng.normal(size=(24, 5)) + 0.5
    gx, gy = by_prompt(8, 2), by_prompt(8, 3)

    def average(a: np.ndarray, ga: np.ndarray, b: np.ndarray, gb: np.ndarray) -> float:
        unit_a, unit_b = (v / np.sqrt((v**2).sum(1, keepdims=True)) for v in (a, b))
        values = [
            np.exp(-((u - v) ** 2).sum() / (2 * 10**2))
            for u, p in zip(unit_a, ga, strict=True)
            for v, q in zip(unit_b, gb, strict=True)
            if p != q
        ]
        return float(np.mean(values))

    expected = average(x, gx, x, gx) + average(y, gy, y, gy) - 2 * average(x, gx, y, gy)
    for scale in (1, 7):  # the length of the features does not matter
        found = cmmd(cmmd_kernels(scale * x, gx, y, gy), ONES_8)[0]
        assert found == pytest.approx(1000 * expected, rel=1e-8)


def test_cmmd_of_two_single_directions_is_the_closed_form() -> None:
    # all x at one point, all y at another at a right angle: 1 + 1 - 2 exp(-2 / 200)
    x, y = np.tile([2.0, 0.0], (8, 1)), np.tile([0.0, 3.0], (8, 1))
    found = cmmd(cmmd_kernels(x, np.arange(8), y, np.arange(8)), ONES_8)[0]
    assert found == pytest.approx(2000 * (1 - np.exp(-0.01)), rel=1e-12)


def test_features_without_direction_or_rows_are_refused() -> None:
    index, x = np.arange(8), np.ones((8, 3))
    with pytest.raises(ValueError, match="reference features hold 1 rows of zeros"):
        cmmd_kernels(x, index, np.vstack([x[:7], np.zeros(3)]), index)
    with pytest.raises(ValueError, match=r"must have the shape \(images, width\), got \(8,\)"):
        prompt_kernels(x[:, 0], index, x, index)


def test_float32_features_count_in_float64() -> None:
    rng = np.random.default_rng(11)
    x, y = (rng.normal(size=(16, 64)).astype(np.float32) for _ in range(2))
    index = by_prompt(8, 2)
    wide = kid(prompt_kernels(x.astype(np.float64), index, y.astype(np.float64), index), ONES_8)
    np.testing.assert_array_equal(kid(prompt_kernels(x, index, y, index), ONES_8), wide)
