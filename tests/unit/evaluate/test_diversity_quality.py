"""Diversity is 0 for copies and blind to order (trap 19); sharpness falls with blur only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewstep.evaluate.diversity import pairwise, ratio
from fewstep.evaluate.quality import high_frequency, sharpness
from fewstep.evaluate.statistics import prompt_weights

INDEX = np.repeat(np.arange(6), 4)


def layouts(seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).uniform(size=(24, 6))
    found[INDEX >= 3, 3:] = np.nan  # prompts that ask for one object only
    return found


def test_copies_have_no_diversity() -> None:
    copies = layouts()[INDEX * 4]
    assert (pairwise(copies, INDEX, 6) == 0).all()


def test_different_prompts_do_not_hide_a_collapse() -> None:
    copies = layouts()[INDEX * 4]
    assert np.ptp(copies[:, 0]) > 0.1
    weights = prompt_weights(6, np.random.default_rng(0))
    draws = ratio(pairwise(copies, INDEX, 6), pairwise(layouts(), INDEX, 6), weights)
    assert (draws == 0).all()


def test_order_of_images_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(24)
    np.testing.assert_allclose(
        pairwise(layouts()[order], INDEX[order], 6), pairwise(layouts(), INDEX, 6), rtol=1e-12
    )


def test_value_by_hand_and_unknown_coordinates() -> None:
    found = np.array([[0.0, 0.0], [0.3, 0.4], [0.6, np.nan], [np.nan, np.nan]])
    distances = [np.sqrt(0.25 / 2), 0.6, 0.3]  # the last image shares no coordinate with any
    result = pairwise(found, np.zeros(4, dtype=np.int64), 2)
    assert result[0] == pytest.approx(np.mean(distances))
    assert np.isnan(result[1])


def test_ratio_uses_the_prompts_known_on_both_sides() -> None:
    weights = np.ones((1, 4))
    model, truth = np.array([0.1, np.nan, 0.3, 9.0]), np.array([0.2, 5.0, 0.6, np.nan])
    assert ratio(model, truth, weights)[0] == pytest.approx(0.5)


def edges(blur: int, lines: int = 1) -> torch.Tensor:
    """A black and white picture with vertical edges, each spread over `blur` pixels."""
    row = torch.zeros(64)
    for i in range(lines):
        row[8 + 16 * i : 16 + 16 * i] = 1
    row = F.avg_pool1d(F.pad(row[None, None], (blur // 2, blur // 2)), blur, stride=1)[0, 0]
    return row[:64].expand(1, 3, 64, 64)


def test_sharpness_is_the_steepness_of_edges_whatever_their_number() -> None:
    assert sharpness(edges(1))[0] == pytest.approx(1.0)
    assert sharpness(edges(5))[0] == pytest.approx(0.2)
    assert sharpness(edges(5, lines=3))[0] == pytest.approx(0.2)
    assert sharpness(torch.full((1, 3, 64, 64), 0.5))[0] == 0.0


def test_high_frequency_power_of_pure_waves() -> None:
    x = torch.arange(64) * 2 * torch.pi
    fine, coarse = ((0.5 + 0.25 * torch.cos(x * f)).expand(1, 3, 64, 64) for f in (24 / 64, 8 / 64))
    assert high_frequency(fine)[0] == pytest.approx(0.25**2 / 2, rel=1e-5)
    assert high_frequency(coarse)[0] == pytest.approx(0.0, abs=1e-9)
    for f, seen in ((15 / 64, False), (16 / 64, False), (17 / 64, True)):  # at half of Nyquist
        wave = (0.5 + 0.25 * torch.cos(x * f)).expand(1, 3, 64, 64)
        assert (high_frequency(wave)[0] > 0.02) == seen
    assert high_frequency(edges(5))[0] < 0.2 * high_frequency(edges(1))[0]
