import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from fewstep.flow import path, sample, sigmas
from fewstep.rng import Rng

SHAPE = (3, 2, 4, 4)


def rng() -> Rng:
    return Rng(0, 0, "sample", range(SHAPE[0]))


def renoise(model, x, grid):
    return sample.renoise(model, x, grid, rng())


def last_of_trajectory(model, x, grid):
    return list(sample.trajectory(model, x, grid))[-1][0]


SAMPLERS = {
    "euler": sample.euler,
    "heun": sample.heun,
    "renoise": renoise,
    "trajectory": last_of_trajectory,
}


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param]


def pair():
    g = torch.Generator().manual_seed(1)
    return (torch.randn(*SHAPE, generator=g, dtype=torch.float64) for _ in range(2))


class Counting:
    """The velocity towards one known picture, with a record of the levels it was asked at."""

    def __init__(self, x0):
        self.x0 = x0
        self.asked: list[float] = []

    def __call__(self, x, sigma):
        assert sigma.shape == x.shape[:1] and sigma.dtype == torch.float32
        assert (sigma == sigma[0]).all() and sigma[0] > 0
        self.asked.append(sigma[0].item())
        return (x - self.x0) / path.spread(sigma, x)


@pytest.mark.parametrize("steps", range(1, 10))
def test_n_intervals_are_n_calls_at_levels_of_the_grid(sampler, steps):
    """Trap 3."""
    x0, x = pair()
    grid = sigmas.turbo_grid(steps)
    model = Counting(x0)
    sampler(model, x, grid)
    assert len(model.asked) == steps
    assert set(model.asked) <= set(torch.tensor(grid[:-1]).tolist())


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_a_known_picture_is_reached_exactly(sampler, steps):
    """Traps 1 and 2: with the wrong time or sign nothing would arrive at x0."""
    x0, x = pair()
    found = sampler(Counting(x0), x, sigmas.grid(steps, 3.0))
    assert_close(found, x0, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [1.0, 0.9545, 0.5, 0.3, 0.01])
def test_one_step_from_any_level_gives_x0(sampler, sigma):
    """Trap 1, at every level: the oracle of the straight path is exact wherever it is asked."""
    x0, eps = pair()
    x = path.interpolate(x0, eps, torch.full((3,), sigma, dtype=torch.float64))
    found = sampler(lambda x, s: path.velocity(x0, eps), x, (sigma, 0.0))
    assert_close(found, x0, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["euler", "heun", "trajectory"])
def test_constant_velocity_is_exact(name):
    x, v = pair()
    found = SAMPLERS[name](lambda x, s: v, x, sigmas.grid(5, 3.0))
    assert_close(found, x - v, atol=1e-14, rtol=0)


def error(sampler, steps: int) -> float:
    """On dx/dsigma = x, which from sigma = 1 to 0 is a division by e."""
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = sampler(lambda x, s: x, x, sigmas.grid(steps))
    return abs(found.item() - math.exp(-1))


@pytest.mark.parametrize("steps", [64, 65])
def test_orders_of_euler_and_heun(steps):
    """Twice the steps: half the error in first order, a quarter in second."""
    ratio = error(sample.euler, steps) / error(sample.euler, 2 * steps)
    assert ratio == pytest.approx(2, rel=0.05)
    # An even grid has two Euler intervals, an odd one has one: compare like with like.
    ratio = error(sample.heun, steps) / error(sample.heun, 2 * steps + steps % 2)
    assert ratio == pytest.approx(4, rel=0.1)
    assert error(sample.heun, steps) < error(sample.euler, steps) / 10


@pytest.mark.parametrize(
    ("steps", "asked"),
    [(1, [0]), (2, [0, 1]), (3, [0, 2, 2]), (4, [0, 1, 3, 3]), (5, [0, 2, 2, 4, 4])],
)
def test_where_heun_spends_its_calls(steps, asked):
    """Both ends of each pair of intervals; single intervals first (even grids) and last."""
    x0, x = pair()
    grid = torch.tensor(sigmas.turbo_grid(steps)).tolist()
    model = Counting(x0)
    sample.heun(model, x, sigmas.turbo_grid(steps))
    assert model.asked == [grid[i] for i in asked]


def test_trajectory_is_lazy_and_walks_like_euler():
    x0, x = pair()
    grid = sigmas.turbo_grid(4)
    model = Counting(x0)
    visited = []
    for point in sample.trajectory(model, x, grid):
        visited.append(point)
        assert len(model.asked) == len(visited) - 1
    assert [s[0].item() for _, s in visited] == torch.tensor(grid).tolist()
    assert torch.equal(visited[0][0], x)
    assert torch.equal(visited[-1][0], sample.euler(Counting(x0), x, grid))
    curved = [x for x, _ in sample.trajectory(lambda x, s: x * path.spread(s, x), x, grid)]
    for (a, b), (here, there) in zip(pairwise(curved), pairwise(grid), strict=True):
        assert_close(b, a + (there - here) * a * here, atol=1e-6, rtol=0)


def test_renoise_visits_fresh_noise_of_the_right_size():
    """Each visited x is x0_hat noised to the level asked for, and the noises differ."""
    n = 64
    ids = range(n)
    x0 = torch.full((n, 1, 8, 8), 2.0)
    seen = []

    def model(x, sigma):
        seen.append((x, sigma))
        return (x - x0) / path.spread(sigma, x)

    start = Rng(0, 0, "start", ids).randn_like(x0)
    sample.renoise(model, start, (1.0, 0.75, 0.25, 0.0), Rng(0, 0, "renoise", ids))
    noises = [(x - (1 - s[0]) * x0) / s[0] for x, s in seen]
    for noise in noises[1:]:
        assert noise.mean().item() == pytest.approx(0, abs=0.06)
        assert noise.std().item() == pytest.approx(1, abs=0.05)
    flat = torch.stack([e.flatten() for e in noises])
    assert (torch.corrcoef(flat) - torch.eye(3)).abs().max() < 0.06


def test_renoise_of_one_step_draws_nothing():
    x0, x = pair()
    r = rng()
    sample.renoise(Counting(x0), x, (1.0, 0.0), r)
    assert torch.equal(r.randn(2), rng().randn(2))


def test_renoise_does_not_depend_on_the_batch_split():
    _, x = (t.float() for t in pair())
    grid = sigmas.turbo_grid(4)

    def model(x, sigma):
        return x.sin() + path.spread(sigma, x)

    whole = sample.renoise(model, x, grid, Rng(0, 0, "s", ["a", "b", "c"]))
    one = sample.renoise(model, x[1:2], grid, Rng(0, 0, "s", ["b"]))
    assert torch.equal(whole[1:2], one)


def test_bad_grid_is_refused_before_any_call(sampler):
    x0, x = pair()
    model = Counting(x0)
    with pytest.raises(ValueError, match="end in 0"):
        sampler(model, x, (1.0, 0.5))
    assert model.asked == []


def test_a_sampler_by_name_is_the_function_of_that_name():
    x0, x = pair()
    grid = (1.0, 0.75, 0.25, 0.0)
    model = Counting(x0 * 0.3)

    def bent(x, sigma):
        return model(x, sigma) + x.square()

    assert_close(sample.draw("euler", bent, x, grid, rng()), sample.euler(bent, x, grid))
    assert_close(sample.draw("renoise", bent, x, grid, rng()), renoise(bent, x, grid))
    assert not torch.allclose(sample.euler(bent, x, grid), renoise(bent, x, grid))
