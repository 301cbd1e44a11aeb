"""Precision, recall, density and coverage on placed points, against loops, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.evaluate import neighbours as module
from fewstep.evaluate.neighbours import Neighbours, neighbour_draws, neighbours
from fewstep.evaluate.statistics import prompt_weights


def loops(x: np.ndarray, y: np.ndarray, k: int) -> Neighbours:
    """The definitions, one distance at a time."""

    def reach(a: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(a[i] - a[j])) for j in range(len(a)) if j != i)[k - 1]

    in_y = np.array([[np.linalg.norm(u - v) <= reach(y, i) for i, v in enumerate(y)] for u in x])
    in_x = np.array([[np.linalg.norm(u - v) <= reach(x, i) for i, u in enumerate(x)] for v in y])
    return Neighbours(
        precision=np.asarray(in_y.any(1), float), density=np.asarray(in_y.sum(1) / k),
        recall=np.asarray(in_x.any(1), float), coverage=np.asarray(in_y.any(0), float),
    )  # fmt: skip


def assert_equal(found: Neighbours, expected: Neighbours) -> None:
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


@pytest.mark.parametrize("k", [1, 3])
def test_equal_the_definitions(k: int) -> None:
    rng = np.random.default_rng(k)
    x, y = rng.normal(size=(31, 3)) + 0.8, rng.normal(size=(23, 3))
    expected = loops(x, y, k)
    assert all(values.mean() > 0 for values in vars(expected).values())
    assert expected.recall.mean() < 1 > expected.precision.mean()
    assert_equal(neighbours(x, y, k), expected)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(40, 4)) + 0.5
    whole = neighbours(x, y)
    monkeypatch.setattr(module, "SLAB", 7)
    assert_equal(neighbours(x, y), whole)


def test_points_on_a_line() -> None:
    # k = 1: the balls of y are [-1, 1], [0, 2], [1, 3], [8, 12] and [8, 12] around 0, 1, 2, 10, 12
    # with reach 1, 1, 1, 2, 2; those of x around 2.5, 2.75, 3 have the reach 0.25, of 40 37
    x = np.array([[2.5], [2.75], [3.0], [40.0]])
    y = np.array([[0.0], [1.0], [2.0], [10.0], [12.0]])
    found = neighbours(x, y, 1)
    np.testing.assert_array_equal(found.precision, [1, 1, 1, 0])
    np.testing.assert_array_equal(found.density, [1, 1, 1, 0])
    np.testing.assert_array_equal(found.coverage, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.recall, [0, 0, 0, 1, 1])  # the outlier's, as recall does


def test_the_edge_belongs_to_the_ball_also_of_copies() -> None:
    # every image has k copies, so all balls have reach 0, in units that do not round well; only
    # some shapes of a product of matrices round differently from others
    rng = np.random.default_rng(0)
    for _ in range(60):
        width, different = int(rng.integers(3, 200)), int(rng.integers(5, 40))
        once = rng.normal(size=(different, width)) / 3 + 100
        y = np.repeat(once, 6, axis=0)
        x = np.repeat(once, int(rng.integers(6, 9)), axis=0)
        x = x[rng.permutation(len(x))[: 6 * different]]
        found, shared = neighbours(x, y), np.isin(y[:, 0], x[:, 0])
        assert found.precision.min() == 1.0
        np.testing.assert_array_equal(found.coverage, shared)
        np.testing.assert_allclose(found.density, 6 / 5)
        assert neighbours(y, x).recall.min() == 1.0


def test_density_of_equal_distributions_is_one_and_coverage_is_known() -> None:
    # Naeem et al., section 3.3: E density = 1, E coverage = 1 - prod of (m - i) / (2 m - i), and
    # about 1 - 2^-k for equal numbers
    rng = np.random.default_rng(4)
    k, n = 3, 400
    found = [neighbours(rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), k) for _ in range(10)]
    assert np.mean([f.density.mean() for f in found]) == pytest.approx(1, abs=0.03)
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    assert np.mean([f.coverage.mean() for f in found]) == pytest.approx(expected, abs=0.015)


def test_a_collapsed_model_is_precise_and_covers_little() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=(300, 4))
    x = y[:1] + 0.01 * rng.normal(size=(300, 4))
    found = neighbours(x, y)
    assert found.precision.mean() == 1.0
    assert max(found.recall.mean(), found.coverage.mean()) < 0.1


def test_draws_are_means_over_the_drawn_prompts() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(24, 3)) + 0.5, rng.normal(size=(16, 3))
    index_x, index_y = np.repeat(np.arange(8), 3), np.repeat(np.arange(8), 2)
    found, weights = neighbours(x, y, 2), prompt_weights(8, rng, 5)
    draws = neighbour_draws(found, index_x, index_y, weights)
    for row, weight in enumerate(weights):
        assert draws["density"][row] == pytest.approx(
            np.average(found.density, weights=weight[index_x])
        )
        assert draws["recall"][row] == pytest.approx(
            np.average(found.recall, weights=weight[index_y])
        )
    assert draws["precision"][0] == found.precision.mean()
    assert draws["coverage"][0] == found.coverage.mean()


def test_too_few_images_and_bad_features_are_refused() -> None:
    x = np.random.default_rng(7).normal(size=(7, 3))
    assert neighbours(x, x).precision.mean() == 1
    with pytest.raises(
        ValueError, match="k = 5 neighbours need at least 7 images, the model has 6"
    ):
        neighbours(x[:6], x)
    with pytest.raises(ValueError, match="the reference has 6: draw more or lower k"):
        neighbours(x, x[:6])
    with pytest.raises(ValueError, match="k must be at least 1 neighbour, got 0"):
        neighbours(x, x, 0)
    with pytest.raises(ValueError, match="widths 3 and 2"):
        neighbours(x, x[:, :2])
    with pytest.raises(ValueError, match="model features must be finite"):
        neighbours(np.where(x == x[0, 0], np.nan, x), x)
    with pytest.raises(ValueError, match="model has 7 features but 6 prompt indices"):
        neighbour_draws(neighbours(x, x), np.arange(6), np.arange(7), np.ones((1, 7)))
