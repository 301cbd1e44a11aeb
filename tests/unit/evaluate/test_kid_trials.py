"""The trials behind docs/kid_statistics.md: what they draw and find."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.kid_trials import (
    Population,
    bias_trials,
    chosen,
    coverage_trials,
    frechet_trials,
    median,
    spread_foretold,
)

from fewstep.evaluate.fidelity import PromptKernels, kid_standard, prompt_kernels
from fewstep.evaluate.frechet import same_distribution
from fewstep.evaluate.statistics import prompt_weights


def kernels(rng: np.random.Generator, centre: np.ndarray, shift: float) -> PromptKernels:
    """Two pictures of each prompt against two true ones."""
    index = np.repeat(np.arange(len(centre)), 2)
    x, y = (centre[index] + rng.normal(size=(len(index), centre.shape[1])) for _ in range(2))
    return prompt_kernels(x + shift, index, y, index)


def test_the_kernels_of_some_prompts_are_those_of_their_pictures() -> None:
    rng = np.random.default_rng(0)
    x, y, index = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), np.repeat(np.arange(20), 2)
    rows = rng.permutation(20)[:9]
    of = np.concatenate([np.flatnonzero(index == p) for p in rows])
    own = np.repeat(np.arange(9), 2)
    weights = prompt_weights(9, rng, 5)
    np.testing.assert_allclose(
        kid_standard(chosen(prompt_kernels(x, index, y, index), rows), weights),
        kid_standard(prompt_kernels(x[of], own, y[of], own), weights),
        rtol=1e-9,
    )


def test_bias_of_the_standard_estimator_is_found_as_foretold() -> None:
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(12, 1, 4)) + 0.5 * rng.normal(size=(12, 10, 4))
    found = bias_trials(pool, 3, 400, rng)
    for values, truth in ((found.standard, found.foretold), (found.prompt_aware, 0.0)):
        assert abs(values.mean() - truth) < 3.5 * values.std() / np.sqrt(400)
    assert abs(found.foretold) > 20 * found.standard.std() / np.sqrt(400)


def test_coverage_is_of_the_value_of_the_whole_population() -> None:
    rng = np.random.default_rng(2)
    centre = rng.normal(size=(300, 4))
    population = Population(
        few=kernels(rng, centre, 0.5), full=kernels(rng, centre, 0.2),
        right_few=rng.random(300) * 0.5, right_full=rng.random(300),
    )  # fmt: skip
    truth = population.truth()
    assert truth["kid_difference"] == pytest.approx(truth["kid_few"] - truth["kid_full"])
    assert truth["adherence_difference"] == pytest.approx(
        population.right_few.mean() - population.right_full.mean()
    )
    found = coverage_trials(population, 40, 60, rng)
    for cell in found.values():
        assert cell.share.value >= 0.85
        assert cell.share.low < cell.share.value <= cell.share.high
    # of a plain mean; near 0 the bootstrap of a KID spreads too far
    assert 0.8 < found["adherence_difference"].spread < 1.2


def test_fd_trials_share_no_prompt() -> None:
    # pictures of a prompt are copies: a prompt on both sides would bring the sets together
    rng = np.random.default_rng(3)
    features = np.repeat(rng.normal(size=(400, 1, 4)), 2, axis=1)
    found = frechet_trials(features, 100, 40, rng)
    # copies bring no information, so the bias is that of 100 images a side
    expected = same_distribution(features[:, 0], 100, 100)
    assert found.value == pytest.approx(expected, rel=0.15)


def test_the_bootstrap_of_a_pair_mean_spreads_as_foretold() -> None:
    # h(p, q) = e_p e_q + shift (e_p + e_q) for independent e of variance 1: z1 = shift^2, z2 = 1
    rng = np.random.default_rng(4)
    size, runs = 40, 300
    for shift in (0.0, 0.3):

        def pairs(e: np.ndarray, shift: float = shift) -> np.ndarray:
            h = np.outer(e, e) + shift * np.add.outer(e, e)
            np.fill_diagonal(h, 0)
            return h

        true = np.array([pairs(rng.normal(size=size)).sum() for _ in range(4000)]).std()
        weights = prompt_weights(size, rng, 300)
        resampled = []
        for _ in range(runs):
            total = ((weights @ pairs(rng.normal(size=size))) * weights).sum(1)
            resampled.append(
                (total / (size**2 - (weights**2).sum(1)) * size * (size - 1))[1:].var()
            )
        expected = np.sqrt(
            (4 * shift**2 / size + 6 / size**2) / (4 * shift**2 / size + 2 / size**2)
        )
        assert spread_foretold(pairs(rng.normal(size=2000)), size) == pytest.approx(
            expected, rel=0.05
        )
        assert np.sqrt(np.mean(resampled)) / true == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (9, 2, 8), (15, 4, 12), (30, 10, 21)])
def test_interval_of_a_median_is_that_of_the_sign_test(n: int, low: int, high: int) -> None:
    found = median([float(i) for i in range(n, 0, -1)])
    assert (found.value, found.low, found.high) == ((n + 1) / 2, low, high)
    with pytest.raises(ValueError, match="at least 6 values for its interval, got 5"):
        median([1.0] * 5)
