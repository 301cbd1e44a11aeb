"""Repeated trials of KID on pictures of Shapes: its bias with shared prompts, and how often its
intervals hold the true value."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.parser_curve import wilson
from numpy.typing import NDArray

from fewstep.evaluate.fidelity import PromptKernels, kid, kid_standard, prompt_kernels
from fewstep.evaluate.frechet import frechet
from fewstep.evaluate.statistics import (
    Draws,
    Estimate,
    Weights,
    estimate,
    mean,
    over_runs,
    prompt_weights,
)

Array = NDArray[np.float64]

QUANTITIES = ("kid_difference", "kid_few", "kid_full", "adherence_difference")
"""Few and full are the two models; a difference is few - full, paired."""


@dataclass(frozen=True, kw_only=True)
class Bias:
    """(trials,): KID of two samples of one distribution, whose truth is 0, by either estimator."""

    standard: Array
    prompt_aware: Array
    foretold: float
    """The bias of the standard estimator by the formula of `fewstep.evaluate.kernels`."""


def bias_trials(pool: Array, each: int, trials: int, rng: np.random.Generator) -> Bias:
    """Two samples of `each` pictures a prompt without a picture in common, drawn from a pool of
    features (prompts, pictures, d) in every trial."""
    prompts, pictures, d = pool.shape
    index, ones = np.repeat(np.arange(prompts), each), np.ones((1, prompts))
    found = np.empty((2, trials))
    for trial in range(trials):
        order = rng.permuted(np.tile(np.arange(pictures), (prompts, 1)), axis=1)
        x, y = (
            np.take_along_axis(pool, order[:, part, None], axis=1).reshape(-1, d)
            for part in (slice(each), slice(each, 2 * each))
        )
        kernels = prompt_kernels(x, index, y, index)
        found[:, trial] = kid_standard(kernels, ones)[0], kid(kernels, ones)[0]
    return Bias(standard=found[0], prompt_aware=found[1], foretold=_foretold(pool, each))


def _foretold(pool: Array, each: int) -> float:
    prompts, pictures, d = pool.shape
    index, rows = np.repeat(np.arange(prompts), pictures), pool.reshape(-1, d)
    kernels = prompt_kernels(rows, index, rows, index)
    same = kernels.own_xx.sum() / (prompts * pictures * (pictures - 1))
    different = kernels.xx.sum() / (prompts * (prompts - 1) * pictures**2)
    return -2 * (same - different) * (prompts - 1) / (prompts * (prompts * each - 1))


@dataclass(frozen=True, kw_only=True)
class Population:
    """Two models on all prompts there are; samples of prompts are drawn from it."""

    few: PromptKernels
    full: PromptKernels
    right_few: Array
    """(prompts,): share of a prompt's pictures that are fully right."""
    right_full: Array

    @property
    def n_prompts(self) -> int:
        return len(self.right_few)

    def draws(self, rows: NDArray[np.int64], weights: Weights) -> dict[str, Draws]:
        """Every quantity on some of the prompts."""
        few, full = (kid(chosen(k, rows), weights) for k in (self.few, self.full))
        own = np.arange(len(rows))
        right = (mean(share[rows], own, weights) for share in (self.right_few, self.right_full))
        values = (few - full, few, full, next(right) - next(right))
        return dict(zip(QUANTITIES, values, strict=True))

    def truth(self) -> dict[str, float]:
        """Every quantity on all prompts."""
        found = self.draws(np.arange(self.n_prompts), np.ones((1, self.n_prompts)))
        return {name: float(values[0]) for name, values in found.items()}

    def spread_foretold(self, size: int) -> dict[str, float]:
        """Of every quantity on `size` prompts."""
        few, full = (mean_kernel(k) for k in (self.few, self.full))
        ratios = [spread_foretold(h, size) for h in (few - full, few, full)]
        return dict(zip(QUANTITIES, [*ratios, 1.0], strict=True))


def mean_kernel(kernels: PromptKernels) -> Array:
    """(P, P): the U-statistic's kernel h of pairs of prompts, whose mean is KID; zero diagonal.

    Every prompt needs the same number of pictures.
    """
    k = kernels
    a, b = k.n_x[0], k.n_y[0]
    return k.xx / a**2 + k.yy / b**2 - (k.xy + k.xy.T) / (a * b)


def spread_foretold(h: Array, size: int) -> float:
    """Bootstrap over true standard deviation of the mean of h over the pairs of `size` prompts.

    With z1 the variance of E[h | p] and z2 that of what is left of h (Hoeffding's parts), the
    variance is 4 z1 / P + 2 z2 / P^2. A resample sees means of h over P prompts in place of
    E[h | p], whose noise z2 / P adds 4 z2 / P^2 (Arcones and Gine 1992). To leading order in 1 / P.
    """
    n, other = len(h), ~np.eye(len(h), dtype=bool)
    centred = np.where(other, h - h[other].mean(), 0)
    by_prompt = centred.sum(1) / (n - 2)
    rest = np.where(other, centred - by_prompt[:, None] - by_prompt[None, :], 0)
    z2 = (rest**2).sum() / (n * (n - 1))
    z1 = (by_prompt**2).mean() - z2 / n
    true = 4 * z1 / size + 2 * z2 / size**2
    return float(np.sqrt((true + 4 * z2 / size**2) / true))


def chosen(kernels: PromptKernels, rows: NDArray[np.int64]) -> PromptKernels:
    """The kernels of some of the prompts."""
    pairs = {name: getattr(kernels, name)[np.ix_(rows, rows)] for name in ("xx", "yy", "xy")}
    single = {
        name: getattr(kernels, name)[rows] for name in ("own_xx", "own_yy", "own_xy", "n_x", "n_y")
    }
    return replace(kernels, **pairs, **single)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often the 95 % interval of a quantity held its true value."""

    share: Estimate
    """With its Wilson interval."""
    below: float
    """Share of trials whose whole interval lay below the truth."""
    spread: float
    """Mean bootstrap standard deviation over the true one; 1 is right."""
    foretold: float
    """That ratio by `spread_foretold`."""


def coverage_trials(
    population: Population, prompts: int, trials: int, rng: np.random.Generator
) -> dict[str, Coverage]:
    """Intervals from `prompts` prompts drawn at random from the population, in every trial."""
    truth, foretold = population.truth(), population.spread_foretold(prompts)
    low, high, value, deviation = (
        {name: np.empty(trials) for name in QUANTITIES} for _ in range(4)
    )
    for trial in range(trials):
        rows = rng.choice(population.n_prompts, prompts, replace=False)
        found = population.draws(rows, prompt_weights(prompts, rng))
        for name, draws in found.items():
            e = estimate(draws, prompts, 1)
            low[name][trial], high[name][trial] = e.low, e.high
            value[name][trial], deviation[name][trial] = e.value, draws[1:].std()
    result = {}
    for name, true in truth.items():
        held = (low[name] <= true) & (true <= high[name])
        share = Estimate(float(held.mean()), *wilson(int(held.sum()), trials), prompts, 1)
        result[name] = Coverage(
            share=share, below=float((high[name] < true).mean()),
            spread=float(deviation[name].mean() / value[name].std()), foretold=foretold[name],
        )  # fmt: skip
    return result


def frechet_trials(
    features: Array, prompts: int, trials: int, rng: np.random.Generator
) -> Estimate:
    """FD of two samples of one distribution that share no prompt, each of all pictures of
    `prompts` prompts out of features (prompts, pictures, d); with its t-interval."""
    found = []
    for _ in range(trials):
        rows = rng.permutation(len(features))[: 2 * prompts].reshape(2, prompts)
        x, y = (features[part].reshape(-1, features.shape[2]) for part in rows)
        own = np.arange(len(x))
        found.append(float(frechet(x, own, y, own, np.ones((1, len(x))))[0]))
    return over_runs(found)


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Median time of a run, with the distribution-free interval of a median."""

    clock: Estimate
    busy: Estimate
    """Of the processor, which other programs do not stop."""


def seconds(images: int, seeds: int, d: int, runs: int) -> Seconds:
    """KID with 1000 replicates, images against images of width d, from features to interval."""
    rng = np.random.default_rng(0)
    x, y = (np.abs(rng.normal(size=(images, d))) for _ in range(2))
    prompts = images // seeds
    index = np.repeat(np.arange(prompts), seeds)
    clock, busy = [], []
    for _ in range(runs + 1):
        start, started = time.perf_counter(), time.process_time()
        weights = prompt_weights(prompts, rng)
        estimate(kid(prompt_kernels(x, index, y, index), weights), prompts, seeds)
        clock.append(time.perf_counter() - start)
        busy.append(time.process_time() - started)
    # the first run also loads what is needed
    return Seconds(clock=median(clock[1:]), busy=median(busy[1:]))


def median(values: Sequence[float]) -> Estimate:
    """Median with the two order statistics that hold it with at least 95 % (sign test)."""
    n, ordered = len(values), sorted(values)
    tail, outside, term = 0.0, 0, 0.5**n
    while tail + term <= 0.025:
        tail, outside, term = tail + term, outside + 1, term * (n - outside) / (outside + 1)
    if outside == 0:
        raise ValueError(f"a median needs at least 6 values for its interval, got {n}")
    return Estimate(float(np.median(ordered)), ordered[outside - 1], ordered[n - outside], 0, 0, n)
