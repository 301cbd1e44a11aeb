"""Variety without training: who answers at which level, and what noise a condition gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from fewstep.flow import sample, sigmas
from fewstep.flow.variety import (
    ConditionNoise,
    Damped,
    FirstStepBy,
    ScaledNoise,
    Velocity,
    by_level,
    gated,
    noised_condition,
)
from fewstep.rng import Rng

GRID = (1.0, 0.9, 0.75, 0.1, 0.0)
"""In float32 0.1 is more than 0.1, 0.9 is less than 0.9."""


def start() -> Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


class Linear:
    """v = a x, so that a step of Euler multiplies x by 1 + step a; records its levels."""

    def __init__(self, a: float) -> None:
        self.a = a
        self.asked: list[float] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.asked.append(round(float(sigma[0]), 6))
        return self.a * x


@pytest.mark.parametrize("k", [1, 2, 3])
def test_one_model_makes_the_first_steps_and_the_other_the_rest(k: int) -> None:
    """A level of the grid is not above itself."""
    teacher, student = Linear(0.5), Linear(-1.0)
    found = sample.euler(by_level([(GRID[k], teacher)], student), start(), GRID)
    steps = [there - here for here, there in pairwise(GRID)]
    factor = math.prod(1 + (0.5 if i < k else -1.0) * s for i, s in enumerate(steps))
    assert_close(found, factor * start())
    assert (teacher.asked, student.asked) == (list(GRID[:k]), list(GRID[k:-1]))


def test_three_models_have_a_range_each() -> None:
    models = [Linear(float(i)) for i in range(3)]
    sample.euler(by_level([(0.9, models[0]), (0.1, models[1])], models[2]), start(), GRID)
    assert [m.asked for m in models] == [[1.0], [0.9, 0.75], [0.1]]
    assert_close(by_level([], models[2])(start(), sample.at(1.0, start())), 2 * start())


def test_samples_at_several_levels_are_refused() -> None:
    model = by_level([(0.5, Linear(1.0))], Linear(0.0))
    with pytest.raises(ValueError, match=r"must share one level, got 0\.25 to 0\.75; call this at"):
        model(start(), torch.tensor([0.75, 0.25, 0.5]))


@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.2, 0.5)])
def test_ranges_that_never_answer_are_refused(levels: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"levels of the parts must fall strictly, got \[0\.[25]"):
        by_level([(level, Linear(1.0)) for level in levels], Linear(0.0))


def test_a_gate_gives_each_step_its_strength_and_makes_each_tree_once() -> None:
    made: dict[float, Linear] = {}

    def tree(strength: float) -> Velocity:
        assert strength not in made
        made[strength] = Linear(strength)
        return made[strength]

    strengths = (1.0, 0.5, 1.0, 0.0)
    found = sample.euler(gated(tree, strengths, GRID), start(), GRID)
    steps = [there - here for here, there in pairwise(GRID)]
    assert_close(
        found, math.prod(1 + a * s for a, s in zip(strengths, steps, strict=True)) * start()
    )
    assert {s: m.asked for s, m in made.items()} == {1.0: [1.0, 0.75], 0.5: [0.9], 0.0: [0.1]}


@pytest.mark.parametrize("strengths", [(), (1, 1, 0), (1, 1, 0, 0, 0)])
def test_a_gate_for_another_number_of_steps_is_refused(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=f"each of the 4 steps, got {len(strengths)}"):
        gated(Linear, strengths, GRID)


def test_a_gate_of_one_step_is_that_strength() -> None:
    grid = sigmas.grid(1)
    assert_close(sample.euler(gated(Linear, (0.25,), grid), start(), grid), 0.75 * start())


LENGTHS = (40, 7, 23)


def conditions(scale: float = 3.0, mean: float = 5.0) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    return [mean + scale * torch.randn(n, 200, generator=draws) for n in LENGTHS]


def streams(*ids: str) -> Rng:
    return Rng(0, 0, "condition", ids)


def test_noise_is_uniform_on_the_share_and_as_wide_as_the_condition() -> None:
    tokens = conditions()
    for before, after in zip(
        tokens, noised_condition(tokens, streams("a", "b", "c"), 0.4, 0.25), strict=True
    ):
        noise = (after - before) / (0.4 * before.std())
        hit = noise[noise.abs() > 1e-6]
        n = noise.numel()
        # binomial, and the moments of uniform noise in [-1, 1]: 0 and 1 / 3; five deviations
        assert abs(len(hit) / n - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5
        assert hit.abs().max() <= 1.01 and hit.abs().max() > 0.98
        assert abs(float(hit.mean())) < 5 * (1 / 3 / len(hit)) ** 0.5
        assert abs(float(hit.square().mean()) - 1 / 3) < 5 * (4 / 45 / len(hit)) ** 0.5


def test_noise_is_of_the_picture_and_not_of_its_batch() -> None:
    state = torch.random.get_rng_state()
    tokens = conditions()
    together = noised_condition(tokens, streams("a", "b", "c"), 0.4, 0.5)
    for i, name in enumerate("abc"):
        (alone,) = noised_condition([tokens[i]], streams(name), 0.4, 0.5)
        assert torch.equal(alone, together[i])
    (other,) = noised_condition([tokens[0]], streams("d"), 0.4, 0.5)
    assert not torch.equal(other, together[0])
    assert torch.equal(state, torch.random.get_rng_state())


def test_noise_follows_the_size_of_the_condition_and_the_strength() -> None:
    small, large = conditions(scale=3.0, mean=0.0), conditions(scale=30.0, mean=0.0)
    for a, b, weak, strong in zip(
        small, large,
        noised_condition(small, streams(*"abc"), 0.1, 1.0),
        noised_condition(large, streams(*"abc"), 0.3, 1.0), strict=True,
    ):  # fmt: skip
        assert_close((strong - b) / 30, weak - a, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FirstStepBy(model=""), "needs the name of a model"),
        (
            lambda: FirstStepBy(model="a", guidance=math.inf),
            "guidance must be a finite number, got",
        ),
        (lambda: ConditionNoise(strength=0), "strength must be a finite number above 0, got 0"),
        (lambda: ConditionNoise(strength=math.nan), "strength must be a finite number above 0"),
        (lambda: ConditionNoise(strength=1, share=0), r"share must lie in \(0, 1\], got 0"),
        (lambda: ConditionNoise(strength=1, above=1), r"above must be a noise level in \[0, 1\)"),
        (lambda: Damped(factor=-0.1), "factor must be a finite number of at least 0, got -0.1"),
        (lambda: Damped(factor=0.3, block=-1), "block must be >= 0, got -1"),
        (
            lambda: Damped(factor=0.3, above=-0.1),
            r"above must be a noise level in \[0, 1\), got -0",
        ),
        (lambda: ScaledNoise(scale=0), "scale must be a finite number above 0, got 0"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("steps", "early"), [(4, 1), (8, 2), (20, 5)])
def test_early_is_the_first_fifth_of_a_grid_of_shift_three(steps: int, early: int) -> None:
    """Rounded up where a fifth is no whole step; the level at a fifth itself is still early."""
    above = ConditionNoise(strength=0.3).above
    assert sum(s > above for s in sigmas.turbo_grid(steps)) == early
