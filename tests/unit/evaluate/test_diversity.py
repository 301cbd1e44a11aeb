"""Diversity in features and pixels: closed forms, 0 for copies, digits kept for near-copies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fewstep.evaluate.diversity import cosine_distance, pixel_std, recovered, vendi
from fewstep.evaluate.statistics import estimate, mean, prompt_weights

INDEX = np.repeat(np.arange(5), 6)
Measure = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def of_pixels(features: np.ndarray, index: np.ndarray, n_prompts: int) -> np.ndarray:
    """`pixel_std` of pictures that hold the features."""
    images = torch.from_numpy(features).float().reshape(len(features), 3, 4, -1)
    return pixel_std(images, index, n_prompts)


EMPTY = {cosine_distance: 0.0, vendi: 1.0, of_pixels: 0.0}
"""What copies have."""


def features(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(30, 24))


def pairs_of(own: np.ndarray) -> float:
    """1 - cos as it is written, a pair at a time."""
    found = [
        1 - a @ b / np.sqrt((a @ a) * (b @ b)) for i, a in enumerate(own) for b in own[i + 1 :]
    ]
    return float(np.mean(found))


def vendi_of(own: np.ndarray) -> float:
    """exp(-tr(K / n log K / n)) with the eigenvalues of the similarity matrix itself."""
    unit = own / np.linalg.norm(own, axis=1, keepdims=True)
    value = np.linalg.eigvalsh(unit @ unit.T / len(own))
    value = value[value > 1e-15]
    return float(np.exp(-(value * np.log(value)).sum()))


def test_equal_their_definitions_prompt_by_prompt() -> None:
    x = features()
    order = np.random.default_rng(1).permutation(30)
    distance, number, std = (m(x[order], INDEX[order], 5) for m in EMPTY)
    for prompt, own in enumerate(np.split(x, 5)):
        assert distance[prompt] == pytest.approx(pairs_of(own), rel=1e-10)
        assert number[prompt] == pytest.approx(vendi_of(own), rel=1e-10)
        assert std[prompt] == pytest.approx(own.std(0, ddof=1).mean(), rel=1e-6)


@pytest.mark.parametrize("measure", EMPTY)
def test_copies_of_a_prompt_are_not_hidden_by_other_prompts(measure: Measure) -> None:
    copies = features()[INDEX * 6]
    found = measure(copies, INDEX, 5)
    assert found == pytest.approx(EMPTY[measure], abs=1e-14 if measure is vendi else 0)
    weights = prompt_weights(5, np.random.default_rng(0), 20)
    assert mean(found, np.arange(5), weights) == pytest.approx(EMPTY[measure], abs=1e-14)


@pytest.mark.parametrize("measure", EMPTY)
def test_a_prompt_with_one_picture_is_unknown(measure: Measure) -> None:
    found = measure(features()[:7], INDEX[:7], 3)
    assert np.isnan(found).tolist() == [False, True, True]


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5])
def test_two_pictures_at_an_angle(size: float) -> None:
    two = np.array([[1.0, 0.0], [np.cos(size), np.sin(size)]]) * [[3.0], [0.2]]
    index = np.zeros(2, dtype=np.int64)
    distance = 2 * np.sin(size / 2) ** 2  # 1 - cos without cancellation
    assert cosine_distance(two, index, 1)[0] == pytest.approx(distance, rel=1e-9, abs=0)
    small = distance / 2  # eigenvalues of K / 2: 1 - small and small
    number = -(1 - small) * np.log1p(-small) - small * np.log(small)
    assert vendi(two, index, 1)[0] - 1 == pytest.approx(np.expm1(number), rel=1e-5, abs=0)


def test_the_effective_number_counts_groups_of_copies() -> None:
    groups = np.eye(24)[[0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7]]
    index = np.repeat([0, 1], 6)
    assert vendi(groups, index, 2) == pytest.approx([2, 6], rel=1e-12)
    assert cosine_distance(groups, index, 2) == pytest.approx([9 / 15, 1], rel=1e-12)


def test_pixel_std_of_a_known_spread() -> None:
    rng = np.random.default_rng(2)
    for spread in (0.02, 0.1):
        images = torch.from_numpy(0.5 + spread * rng.uniform(-1, 1, size=(48, 3, 16, 16)))
        found = pixel_std(images, np.repeat(np.arange(3), 16), 3)
        assert found == pytest.approx(spread / np.sqrt(3), rel=0.02)
    two = torch.tensor([0.2, 0.2 + 1e-5], dtype=torch.float64)[:, None, None, None]
    found = pixel_std(two.expand(2, 3, 4, 4), np.zeros(2, dtype=np.int64), 1)
    assert found[0] == pytest.approx(1e-5 / np.sqrt(2), rel=1e-6)


def test_features_without_a_direction_are_refused() -> None:
    x = features()
    for wrong in (0.0, np.nan, np.inf):
        x[3] = wrong
        with pytest.raises(ValueError, match="finite and not all 0"):
            cosine_distance(x, INDEX, 5)
        with pytest.raises(ValueError, match="finite and not all 0"):
            vendi(x, INDEX, 5)


def test_recovered_share_of_the_card_and_no_interval_without_a_gap() -> None:
    # the figures of the SDA card: 0.564 and 0.691 against a teacher at 0.745 are 70.2 %
    ones = np.ones(3)
    assert recovered(0.564 * ones, 0.691 * ones, 0.745 * ones) == pytest.approx(0.7017, abs=1e-4)
    rng = np.random.default_rng(3)
    weights = prompt_weights(40, rng, 300)
    base = rng.uniform(0.3, 0.6, size=40)
    student, teacher = (mean(base + gain, np.arange(40), weights) for gain in (0.0, 0.2))
    noise = 0.02 * rng.normal(size=40)
    adapted = mean(base + 0.1 + noise, np.arange(40), weights)
    assert recovered(student, student, teacher)[0] == 0
    assert recovered(student, teacher, teacher)[0] == 1
    found = estimate(recovered(student, adapted, teacher), 40, 16)
    assert found.value == pytest.approx(0.5 + noise.mean() / 0.2)
    # paired: prompts differ by ten times as much as the noise, and none of that is in the interval
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(40), rel=0.3)
    assert np.isnan(recovered(teacher, adapted, student)).all()
