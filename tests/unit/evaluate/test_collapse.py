"""Each way in which prompts can be lost shows in the number that is meant to see it."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.evaluate.collapse import (
    cross_prompt,
    prompt_distances,
    prompt_share,
    similarity,
)
from fewstep.evaluate.statistics import Draws, Estimate, estimate, prompt_weights

PROMPTS, SEEDS, WIDTH = 24, 4, 32
WEIGHTS = prompt_weights(PROMPTS, np.random.default_rng(0), 300)


def pictures(of_prompt: float, of_seed: float, own: float, seed: int = 0) -> np.ndarray:
    """(P, S, d): a part of the prompt, a part of the seed for all prompts, and a part of its own.

    A common direction far away makes all lengths nearly equal, so that distances are quadratic.
    """
    rng = np.random.default_rng(seed)
    x = 1000 * np.eye(WIDTH)[0] + np.zeros((PROMPTS, SEEDS, WIDTH))
    x += of_prompt * rng.normal(size=(PROMPTS, 1, WIDTH))
    x += of_seed * rng.normal(size=(1, SEEDS, WIDTH))
    return x + own * rng.normal(size=(PROMPTS, SEEDS, WIDTH))


def stated(draws: Draws) -> Estimate:
    return estimate(draws, PROMPTS, SEEDS)


TRUTH = prompt_distances(pictures(1, 0, 1, seed=9))


def test_distances_equal_the_loop_over_pairs() -> None:
    x = pictures(30, 20, 40)[:5]
    found = prompt_distances(x)
    u = x / np.linalg.norm(x, axis=2, keepdims=True)

    def average(p: int, q: int, same: bool) -> float:
        return float(np.mean([
            1 - u[p, s] @ u[q, r] for s in range(SEEDS) for r in range(SEEDS) if (s == r) == same
        ]))  # fmt: skip

    for p in range(5):
        assert found.within[p] == pytest.approx(average(p, p, same=False), rel=1e-9)
        for q in set(range(5)) - {p}:
            assert found.same_seed[p, q] == pytest.approx(average(p, q, same=True), rel=1e-9)
            assert found.apart[p, q] == pytest.approx(average(p, q, same=False), rel=1e-9)
    alike = similarity(found)
    assert alike[1, 3] == pytest.approx(1 - average(1, 3, same=False))
    assert alike[2, 2] == pytest.approx(1 - average(2, 2, same=False))


def test_a_resample_equals_the_loop_over_the_drawn_prompts() -> None:
    found = prompt_distances(pictures(30, 20, 40))
    weights = WEIGHTS[1:3]
    for weight, share, cross in zip(
        weights, prompt_share(found, weights), cross_prompt(found, TRUTH, weights), strict=True
    ):
        drawn = np.repeat(np.arange(PROMPTS), weight.astype(int))
        pairs = [(p, q) for p in drawn for q in drawn if p != q]
        apart = np.mean([found.apart[pair] for pair in pairs])
        assert share == pytest.approx(1 - found.within[drawn].mean() / apart)
        same, true = (np.mean([d.same_seed[pair] for pair in pairs]) for d in (found, TRUTH))
        assert cross == pytest.approx(same / true)


def test_healthy_pictures_read_as_the_truth() -> None:
    found = prompt_distances(pictures(1, 0, 1))
    share, cross = stated(prompt_share(found, WEIGHTS)), stated(cross_prompt(found, TRUTH, WEIGHTS))
    assert share.low < 0.5 < share.high and share.high - share.low < 0.15
    assert cross.low < 1 < cross.high and cross.high - cross.low < 0.3


def test_one_picture_for_everything() -> None:
    # three seeds, for the mean of equal numbers is not always that number
    found = prompt_distances(np.broadcast_to(pictures(1, 0, 1)[:1, :1], (PROMPTS, 3, WIDTH)))
    assert (cross_prompt(found, TRUTH, WEIGHTS) == 0).all()
    assert np.isnan(prompt_share(found, WEIGHTS)).all()
    assert (similarity(found) == 1).all()


def test_the_same_pictures_for_every_prompt() -> None:
    found = prompt_distances(pictures(0, 1, 0))
    assert (cross_prompt(found, TRUTH, WEIGHTS) == 0).all()
    assert prompt_share(found, WEIGHTS) == pytest.approx(0, abs=1e-9)
    assert np.ptp(similarity(found)) < 1e-12  # an even picture


def test_near_copies_keep_their_digits() -> None:
    x = pictures(1e-4, 0, 1e-4)[:3]
    found = prompt_distances(x)
    u = x / np.linalg.norm(x, axis=2, keepdims=True)
    same = np.mean([(u[0, s] - u[2, s]) @ (u[0, s] - u[2, s]) / 2 for s in range(SEEDS)])
    assert 0 < same < 1e-12
    assert found.same_seed[0, 2] == pytest.approx(same, rel=1e-7, abs=0)
    first, second = np.triu_indices(SEEDS, 1)
    within = ((u[1, first] - u[1, second]) ** 2).sum(1).mean() / 2
    assert found.within[1] == pytest.approx(within, rel=1e-7, abs=0)


def test_nearly_the_same_pictures_for_every_prompt() -> None:
    found = prompt_distances(pictures(0, 1, 0.1))
    assert stated(cross_prompt(found, TRUTH, WEIGHTS)).high < 0.02
    assert stated(prompt_share(found, WEIGHTS)).high < 0.02


def test_own_pictures_for_every_prompt_but_seeds_alike() -> None:
    found = prompt_distances(pictures(np.sqrt(2), 0, 0))
    assert (prompt_share(found, WEIGHTS) == 1).all()
    cross = stated(cross_prompt(found, TRUTH, WEIGHTS))
    assert 0.8 < cross.low < 1 < cross.high < 1.25


def test_seeds_that_fix_the_layout_do_not_look_like_lost_prompts() -> None:
    found = prompt_distances(pictures(1, 1, 0, seed=3))
    assert prompt_share(found, WEIGHTS)[0] == pytest.approx(0.5, abs=0.2)  # only 4 layouts are seen
    assert cross_prompt(found, TRUTH, WEIGHTS)[0] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("seeds", [2, 8])
def test_the_share_is_unbiased_for_few_seeds(seeds: int) -> None:
    # variances 1 and 3: a quarter; the naive share of between-prompt means would be 0.625 at 2
    rng = np.random.default_rng(4)
    weights = np.ones((1, 60))
    shares = []
    for _ in range(80):
        x = np.zeros((60, seeds, WIDTH)) + 1000 * np.eye(WIDTH)[0]
        x += rng.normal(size=(60, 1, WIDTH)) + np.sqrt(3) * rng.normal(size=x.shape)
        shares.append(prompt_share(prompt_distances(x), weights)[0])
    error = np.std(shares) / np.sqrt(len(shares))
    assert error < 0.003 and abs(np.mean(shares) - 0.25) < 4 * error + 0.001


def test_too_few_prompts_or_seeds_are_refused() -> None:
    for prompts, seeds in ((1, 4), (4, 1)):
        with pytest.raises(ValueError, match=f"2 prompts and 2 seeds, got {prompts} x {seeds}"):
            prompt_distances(np.ones((prompts, seeds, 3)))
    with pytest.raises(ValueError, match="finite and not all 0"):
        prompt_distances(np.zeros((4, 4, 3)))


def test_similarity_has_a_bright_diagonal_where_prompts_matter() -> None:
    alike = similarity(TRUTH)
    others = (alike.sum(1) - alike.diagonal()) / (PROMPTS - 1)
    assert (alike.diagonal() > others).all()
    np.testing.assert_allclose(alike, alike.T, rtol=1e-12)
