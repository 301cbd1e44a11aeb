"""FD against closed forms, its bias against simulation, and when it is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep.evaluate.frechet import frechet, same_distribution
from fewstep.evaluate.statistics import estimate, prompt_weights


def value(x: np.ndarray, y: np.ndarray) -> float:
    own_x, own_y = np.arange(len(x)), np.arange(len(y))
    return frechet(x, own_x, y, own_y, np.ones((1, max(len(x), len(y)))))[0]


def with_moments(rng: np.random.Generator, mean: list[float], covariance: np.ndarray) -> np.ndarray:
    """200 rows whose sample mean and covariance are exactly these."""
    raw = rng.normal(size=(200, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_commuting_covariances_are_the_closed_form() -> None:
    # |mu_x - mu_y|^2 + sum of (sd_x - sd_y)^2 along common axes, in any rotation
    rng = np.random.default_rng(0)
    x = with_moments(rng, [0.0, 1.0, 2.0], np.diag([1.0, 4.0, 9.0]))
    y = with_moments(rng, [0.5, 1.0, 0.0], np.diag([4.0, 4.0, 1.0]))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    expected = 0.25 + 4 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert value(x, y) == pytest.approx(expected, rel=1e-10)
    assert value(x @ turn, y @ turn) == pytest.approx(expected, rel=1e-10)
    assert value(y, x) == pytest.approx(expected, rel=1e-10)


def test_covariances_that_do_not_commute_are_the_closed_form_in_two_dimensions() -> None:
    # of a 2 x 2 matrix with positive eigenvalues, tr M^(1/2) = (tr M + 2 det(M)^(1/2))^(1/2)
    rng = np.random.default_rng(1)
    a, b = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    x, y = (with_moments(rng, [0.0, 0.0], c) for c in (a, b))
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    assert value(x, y) == pytest.approx(np.trace(a) + np.trace(b) - 2 * root, rel=1e-10)


def test_a_constant_feature_and_copies_are_no_trouble() -> None:
    rng = np.random.default_rng(2)
    x = np.hstack([rng.normal(size=(200, 4)), np.zeros((200, 3))])
    assert value(x, x) == pytest.approx(0, abs=1e-12)
    assert value(x, x + 2.0) == pytest.approx(7 * 4, rel=1e-12)


def test_a_resample_equals_the_distance_of_the_drawn_images() -> None:
    rng = np.random.default_rng(3)
    index = np.repeat(np.arange(30), 2)
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) * 1.5
    weights = prompt_weights(30, rng, 4)
    draws = frechet(x, index, y, index, weights)
    drawn = [np.repeat(np.arange(60), w[index].astype(int)) for w in weights]
    plain = np.array([value(x[rows], y[rows]) for rows in drawn])
    # moved back together: their own differences stay, and their mean is the value
    np.testing.assert_allclose(np.diff(draws[1:]), np.diff(plain[1:]), rtol=1e-9)
    assert draws[0] == pytest.approx(plain[0], rel=1e-12)
    assert draws[1:].mean() == pytest.approx(plain[0], rel=1e-12)


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_samples_of_one_distribution_are_apart_as_foretold(spread: float) -> None:
    # the refusal stands on this formula: here n = 10 d, its limit
    d, n, runs = 24, 240, 500
    rng = np.random.default_rng(4)
    scale = np.exp(-spread * np.arange(d) / d)
    found = [value(*(rng.normal(size=(n, d)) * scale for _ in range(2))) for _ in range(runs)]
    expected = same_distribution(with_diagonal(scale**2), n, n)
    error = np.std(found) / math.sqrt(runs)
    assert error < 0.01 * expected
    assert np.mean(found) == pytest.approx(expected, rel=0.05)  # terms of order 1 / n are left out
    variance = (scale**2).sum()
    assert expected <= variance * (d + 5) / (2 * n) * (1 + 1e-9)
    if not spread:
        assert expected == pytest.approx(variance * (d + 5) / (2 * n), rel=1e-9)


def with_diagonal(variances: np.ndarray) -> np.ndarray:
    """Rows with exactly these variances and no correlation."""
    d = len(variances)
    rows = np.vstack([np.eye(d), -np.eye(d)]) * np.sqrt(variances)
    return rows * math.sqrt((2 * d - 1) / 2)


def test_the_interval_covers_the_mean_fd_of_this_many_images() -> None:
    d, n, runs = 4, 60, 150
    rng = np.random.default_rng(5)
    pairs = [(rng.normal(size=(n, d)), rng.normal(size=(n, d)) + 0.3) for _ in range(5 * runs)]
    target = np.mean([value(x, y) for x, y in pairs])
    index, covered, plain = np.arange(n), 0, 0
    for x, y in pairs[:runs]:
        weights = prompt_weights(n, rng, 150)
        draws = frechet(x, index, y, index, weights)
        found = estimate(draws, n, 1)
        covered += found.low <= target <= found.high
        # the same without the move, which one resample tells
        rows = np.repeat(index, weights[1].astype(int))
        move = value(x[rows], y[rows]) - draws[1]
        plain += found.low + move <= target <= found.high + move
    assert covered / runs >= 0.93
    assert plain / runs <= 0.91


def test_too_few_images_are_refused_and_wide_features_have_no_interval() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(40, 4))
    assert value(x, x[::-1]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(
        ValueError, match=r"width 4 needs at least 40 images on a side, the ref.* 39"
    ):
        value(x, x[:39])
    with pytest.raises(ValueError, match="needs at least 40 images on a side, the model has 39"):
        value(x[:39], x)
    wide = rng.normal(size=(2570, 257))
    index = np.arange(2570)
    found = estimate(frechet(wide, index, wide + 1, index, np.ones((3, 2570))), 2570, 1)
    assert found.value == pytest.approx(257, rel=1e-9)
    assert math.isnan(found.low)
