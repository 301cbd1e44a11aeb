"""Samplers: one function each, over a velocity function of (x, sigma).

All of them take a grid of N + 1 levels that ends in 0 and call the model exactly N times, at
levels of the grid and never at 0. They keep no state and open no autograd context: wrap them in
`torch.no_grad()` unless gradients are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, assert_never

import torch
from torch import Tensor

from fewstep.flow.path import interpolate, spread, to_x0
from fewstep.flow.sigmas import check_grid
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma

Velocity = Callable[[Latent, Sigma], Latent]
"""What a sampler needs of a model: v = eps - x0 at the level sigma of each sample."""

SamplerName = Literal["euler", "renoise"]
"""The samplers that an ordinary diffusers scheduler has too, so that a model can be saved with
the one it was made for: Euler, and re-noising as `stochastic_sampling`."""


def at(sigma: float, x: Tensor) -> Sigma:
    """The level sigma for every sample of x: shape (b,), float32."""
    return torch.full((len(x),), sigma, dtype=torch.float32, device=x.device)


def trajectory(
    model: Velocity, x: Latent, sigmas: Sequence[float]
) -> Iterator[tuple[Latent, Sigma]]:
    """Every (x, sigma) that Euler visits: the N points of its model calls, then (x0_hat, 0).

    Lazy: a consumer that stops after k points has paid for k - 1 calls.
    """
    values = check_grid(sigmas)
    for here, there in pairwise(values):
        sigma = at(here, x)
        yield x, sigma
        x = x + (there - here) * model(x, sigma)
    yield x, at(values[-1], x)


def euler(model: Velocity, x: Latent, sigmas: Sequence[float]) -> Latent:
    """First order: one straight line for each interval."""
    for here, there in pairwise(check_grid(sigmas)):
        x = x + (there - here) * model(x, at(here, x))
    return x


def euler_from(model: Velocity, x: Latent, sigma: Sigma, steps: int) -> Latent:
    """x0 from any level, each sample's own, in `steps` equal steps of sigma: for states on the way,
    which no grid begins with."""
    for i in range(steps):
        here = sigma * (1 - i / steps)
        x = x - spread(sigma / steps, x) * model(x, here)
    return x


def heun(model: Velocity, x: Latent, sigmas: Sequence[float]) -> Latent:
    """Second order at the price of Euler: N intervals, N calls.

    A Heun step needs the velocity at both of its ends, so it is taken over *two* intervals of the
    grid. The last interval is an Euler step, because a velocity at sigma = 0 tells nothing about
    noise; with an even N the first one is too. A single Euler step has an error of the order of
    the interval squared, which leaves the order of the whole at two.
    """
    values = check_grid(sigmas)
    last = len(values) - 2
    i = 0
    while i <= last:
        here = values[i]
        v = model(x, at(here, x))
        if i == last or (i == 0 and last % 2 == 1):
            x = x + (values[i + 1] - here) * v
            i += 1
        else:
            step = values[i + 2] - here
            there = at(values[i + 2], x)
            x = x + step / 2 * (v + model(x + step * v, there))
            i += 2
    return x


def renoise(model: Velocity, x: Latent, sigmas: Sequence[float], rng: Rng) -> Latent:
    """The stochastic sampler of few-step models: jump to x0_hat, noise it anew to the next level.

    Errors of one step are buried in fresh noise instead of being carried along (multistep
    consistency sampling; Song et al. 2023, arXiv:2303.01469, algorithm 1). No noise follows the
    last jump, so a grid of one step draws nothing from `rng`.
    """
    for here, there in pairwise(check_grid(sigmas)):
        sigma = at(here, x)
        x = to_x0(x, model(x, sigma), sigma)
        if there > 0:
            x = interpolate(x, rng.randn_like(x), at(there, x))
    return x


def onward(
    name: SamplerName, model: Velocity, x: Latent, here: float, there: float, rng: Rng
) -> Latent:
    """From one level to the next above 0, as the sampler of this name goes."""
    v = model(x, at(here, x))
    match name:
        case "euler":
            return x + (there - here) * v
        case "renoise":
            x0_hat = to_x0(x, v, at(here, x))
            return interpolate(x0_hat, rng.randn_like(x), at(there, x))
        case _:
            assert_never(name)


def state(
    name: SamplerName, model: Velocity, x: Latent, levels: Sequence[float], rng: Rng
) -> Latent:
    """What the sampler has reached at the last of the levels, from x at the first: what the model
    meets when it is asked there next. One call for each level but the last."""
    for here, there in pairwise(levels):
        x = onward(name, model, x, here, there, rng)
    return x


def draw(
    name: SamplerName, model: Velocity, x: Latent, sigmas: Sequence[float], rng: Rng
) -> Latent:
    """x0 by the sampler of this name; only "renoise" draws from `rng`."""
    match name:
        case "euler":
            return euler(model, x, sigmas)
        case "renoise":
            return renoise(model, x, sigmas, rng)
        case _:
            assert_never(name)
