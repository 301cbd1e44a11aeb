"""Distances from one pass an image equal those pair by pair, also where pictures collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.lpips_speed import direct, near, picture_sets, pictures, random_net, relative_error

from fewstep.evaluate import gram
from fewstep.evaluate.gram import mean_pairwise_lpips, pairwise_lpips
from fewstep.evaluate.lpips import TRUNKS

ALEX = random_net("lpips-alex")


@pytest.mark.parametrize("name", TRUNKS)
def test_equals_the_definition_pair_by_pair(name: str) -> None:
    net = random_net(name)
    for kind, images in picture_sets(side=40).items():
        found = pairwise_lpips(net, images)
        assert found.dtype == np.float64 and (found == found.T).all(), kind
        assert relative_error(found, direct(net, images)) < 1e-6, kind


def test_equals_the_network_on_pairs() -> None:
    images = pictures(5, 0)
    first, second = np.triu_indices(5, 1)
    alone = ALEX(images[first], images[second]).numpy()
    np.testing.assert_allclose(pairwise_lpips(ALEX, images)[first, second], alone, rtol=1e-6)


def test_copies_give_exactly_0() -> None:
    copies = pictures(1, 0).expand(7, -1, -1, -1)
    assert (pairwise_lpips(ALEX, copies) == 0).all()
    assert (mean_pairwise_lpips(ALEX, copies, np.zeros(7, dtype=np.int64), 1) == 0).all()


def test_a_network_in_float64_keeps_its_digits_down_to_the_last_near_copies() -> None:
    net = random_net("lpips-alex").double()
    for size in (1e-5, 1e-8):
        images = near(pictures(1, 0).double(), 4, size)
        found = pairwise_lpips(net, images)
        assert relative_error(found, direct(net, images)) < 1e-6
        # an embedding is smooth: the distance goes with the square of the noise
        assert 10 * size**2 < found.max() < 1000 * size**2


def test_strips_and_shared_passes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.cat([pictures(6, 0), near(pictures(1, 1), 3, 1e-3)])
    index = np.array([0, 2, 2, 0, 2, 3, 1, 1, 1])  # mixed up, and a prompt with one image
    whole = mean_pairwise_lpips(ALEX, images, index, 5)
    for prompt, rows in ((0, [0, 3]), (2, [1, 2, 4]), (1, [6, 7, 8])):
        alone = pairwise_lpips(ALEX, images[rows])
        pairs = alone[np.triu_indices(len(rows), 1)]
        assert whole[prompt] == pytest.approx(pairs.mean(), rel=1e-5)
    assert np.isnan(whole[3:]).all()
    monkeypatch.setattr(gram, "STRIP", 1000)
    monkeypatch.setattr(gram, "PASS", 1)
    np.testing.assert_allclose(mean_pairwise_lpips(ALEX, images, index, 5), whole, rtol=1e-5)


def test_order_of_seeds_does_not_matter() -> None:
    images = pictures(6, 0)
    order = np.random.default_rng(0).permutation(6)
    found, moved = pairwise_lpips(ALEX, images), pairwise_lpips(ALEX, images[order])
    np.testing.assert_allclose(moved, found[np.ix_(order, order)], rtol=1e-6)


@pytest.mark.parametrize(
    ("spread", "others", "enough"),
    [(0.5, 0, True), (0.1, 0, True), (0.04, 1, False), (0.01, 0, False), (0.0, 0, False)],
)
def test_float32_is_used_where_it_is_enough(spread: float, others: int, enough: bool) -> None:
    """A cluster of directions, with others first: the closer the pairs, the more digits go."""
    generator = torch.Generator().manual_seed(0)
    far, centre = torch.randn(2, 1, 64, 9, 9, generator=generator)
    cluster = centre + spread * torch.randn(4, 64, 9, 9, generator=generator)
    features = torch.cat([far, cluster] if others else [cluster])
    w = torch.rand(64, generator=generator)
    right = gram.distances_in(torch.float64, features, w)
    single = gram.distances_in(torch.float32, features, w)
    assert gram.clear(single, w) is enough
    assert torch.equal(gram.layer_distances(features, w), single if enough else right)
    if enough:
        # what is promised of a score; sums of AVX-512 come within 3e-7, those of AVX2 within 8e-7
        assert relative_error(single.numpy(), right.numpy()) < 1e-6


def test_pairs_far_from_the_first_image_need_more_digits() -> None:
    w = torch.ones(4)
    far = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.2], [1.0, 0.2, 0.0]], dtype=torch.float64)
    assert not gram.clear(far, w)
    assert gram.clear(far.where(far != 0.2, 0.3), w)
