import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch.testing import assert_close

from fewstep.flow import sample, sigmas
from fewstep.rng import Rng


def draws(n: int) -> Rng:
    return Rng(0, 0, "test", range(n))


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 9, 50])
@pytest.mark.parametrize("by", [1.0, 3.0, 6.0, 0.5])
def test_grid_is_that_of_the_diffusers_scheduler(steps, by):
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=by)
    # What ZImagePipeline passes; the scheduler then shifts it and appends the 0.
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
    expected = scheduler.sigmas
    assert_close(torch.tensor(sigmas.grid(steps, by)), expected, atol=2e-7, rtol=0)


def test_turbo_grid():
    """The levels as the model's users know them, to the digits that are published."""
    known = [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3, 0]
    assert [round(s, 4) for s in sigmas.TURBO_GRID] == known
    assert sigmas.turbo_grid(8) == pytest.approx(sigmas.TURBO_GRID, abs=1e-15)
    assert sigmas.turbo_grid(4) == pytest.approx([1, 0.9, 0.75, 0.5, 0], abs=1e-15)
    assert sigmas.turbo_grid(4) == pytest.approx(sigmas.TURBO_GRID[::2], abs=1e-15)


def test_base_grid():
    # 6u / (1 + 5u) at u = 3/4, 2/4, 1/4
    assert sigmas.base_grid(4) == pytest.approx([1, 18 / 19, 6 / 7, 2 / 3, 0], abs=1e-15)


def test_shift_composes_and_keeps_its_ends():
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert_close(sigmas.shift(sigmas.shift(u, 2.0), 3.0), sigmas.shift(u, 6.0))
    assert sigmas.shift(0.0, 3.0) == 0 and sigmas.shift(1.0, 3.0) == 1
    assert sigmas.shift(0.5, 3.0) == 0.75


@pytest.mark.parametrize("by", [0.0, -1.0, math.inf, math.nan])
def test_impossible_shift_is_refused(by):
    with pytest.raises(ValueError, match="shift must be"):
        sigmas.shift(0.5, by)


@pytest.mark.parametrize("by", [0.5, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_training_levels_are_the_sampler_grid(by, steps, size):
    """Trap 4: a student drawn levels from `levels` sees exactly what each sampler will ask."""
    grid = sigmas.grid(steps, by)
    asked: set[float] = set()

    def model(x, sigma):
        asked.update(sigma.tolist())
        return torch.zeros_like(x)

    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    sample.euler(model, x, grid)
    sample.renoise(model, x, grid, draws(2))
    trained = set(sigmas.choice(draws(300), sigmas.levels(grid)).tolist())
    assert trained == asked
    assert len(trained) == steps


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ((), "at least 2"),
        ((0.0,), "at least 2"),
        ((1.0, 0.5), "end in 0"),
        ((1.5, 0.5, 0.0), "start in"),
        ((0.0, 0.0), "start in"),
        ((math.nan, 0.0), "start in"),
        ((1.0, 0.5, 0.5, 0.0), "fall strictly"),
        ((1.0, 0.4, 0.5, 0.0), "fall strictly"),
        ((1.0, math.nan, 0.0), "fall strictly"),
    ],
)
def test_bad_grids_are_refused(bad, why):
    with pytest.raises(ValueError, match=why):
        sigmas.check_grid(bad)


def test_good_grids_pass_and_zero_steps_do_not():
    assert sigmas.check_grid([0.8, 0.3, 0]) == (0.8, 0.3, 0.0)
    assert sigmas.levels((0.8, 0.3, 0.0)) == (0.8, 0.3)
    with pytest.raises(ValueError, match="at least 1 step"):
        sigmas.grid(0)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (-0.5, 0.5)])
def test_logit_normal_quantiles(mean, std):
    """Trap 13."""
    n = 20_000
    drawn = sigmas.logit_normal(draws(n), mean, std)
    assert drawn.shape == (n,) and drawn.dtype == torch.float32
    q = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    normal = torch.distributions.Normal(0.0, 1.0).icdf(q)
    expected = torch.sigmoid(mean + std * normal)
    below = (drawn[:, None] <= expected).float().mean(0)
    assert_close(below, q, atol=0.012, rtol=0)  # 3.4 standard errors at the median


def test_choice_frequencies():
    """Trap 13."""
    n = 20_000
    values, probs = (1.0, 0.75, 0.5, 0.25), (0.1, 0.0, 0.6, 0.3)
    drawn = sigmas.choice(draws(n), values, probs)
    assert drawn.shape == (n,) and drawn.dtype == torch.float32
    found = [(drawn == v).float().mean().item() for v in values]
    assert found == pytest.approx(probs, abs=0.012)
    assert found[1] == 0


def test_choice_never_draws_what_has_no_probability(monkeypatch):
    rng = draws(2)
    ends = torch.tensor([0.0, 1 - 2**-24])  # the least and the greatest draw that there is
    monkeypatch.setattr(rng, "rand", lambda: ends)
    thirds = (0.0, 1 / 3, 1 / 3, 1 / 3, 0.0)
    assert sigmas.choice(rng, (1.0, 0.8, 0.6, 0.4, 0.2), thirds).tolist() == pytest.approx(
        [0.8, 0.4]
    )


def test_choice_is_even_by_default():
    drawn = sigmas.choice(draws(9_000), (0.9, 0.6, 0.3))
    for v in (0.9, 0.6, 0.3):
        assert (drawn == v).float().mean().item() == pytest.approx(1 / 3, abs=0.018)


def test_uniform_shifted_quantiles():
    n = 20_000
    drawn = sigmas.uniform_shifted(draws(n), 3.0)
    assert drawn.min() > 0 and drawn.max() <= 1
    q = torch.tensor([0.1, 0.5, 0.9])
    below = (drawn[:, None] <= sigmas.shift(q, 3.0)).float().mean(0)
    assert_close(below, q, atol=0.012, rtol=0)


@pytest.mark.parametrize(
    ("values", "probs", "why"),
    [
        ((), None, "got 0 values"),
        ((0.5, 1.0), (1.0,), "2 values and 1 probabilities"),
        ((0.5, 0.0), None, r"\(0, 1\]"),
        ((0.5, 1.5), None, r"\(0, 1\]"),
        ((0.5, 1.0), (1.5, -0.5), "at least 0"),
        ((0.5, 1.0), (0.5, 0.4), "sum to 1"),
    ],
)
def test_bad_choices_are_refused(values, probs, why):
    with pytest.raises(ValueError, match=why):
        sigmas.choice(draws(2), values, probs)


def test_logit_normal_needs_a_spread():
    with pytest.raises(ValueError, match="std"):
        sigmas.logit_normal(draws(2), 0.0, 0.0)
