"""Collapse over prompts: does the picture still depend on the prompt?

`diversity` asks whether the seeds of a prompt differ. A model can pass that and still draw the same
pictures for every prompt. Two pictures can differ in prompt, in seed or in both, and the mean
cosine distances over the three kinds of pairs tell these failures apart:

    within     one prompt, two seeds
    same_seed  two prompts, one seed: only the prompt was changed
    apart      two prompts, two seeds

                                              prompt_share    cross_prompt
    healthy                                   the truth's     about 1
    one picture whatever prompt and seed      undefined       0
    the seed decides alone, prompts ignored   0               0
    the prompt decides alone, seeds ignored   1               about 1

prompt_share = 1 - within / apart is the share of the variance of the features that the prompt
explains: the intraclass correlation, ICC(1, 1) of Shrout and Fleiss 1979. No pair in it shares a
seed, so neither few seeds nor layouts that a seed fixes for all prompts bias it. Read it beside the
truth's: more is a loss of seeds, less is a loss of prompts.

cross_prompt is the mean of same_seed over the truth's. With one seed there is nothing but the
prompt to tell two pictures apart, so 0 means that prompts are ignored. A model whose seeds fix the
layout for all prompts lies between 0 and 1 and its prompt_share stays healthy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from fewstep.evaluate.diversity import unit
from fewstep.evaluate.statistics import Draws, Weights, divide

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PromptDistances:
    """Mean cosine distances: `within` prompts, (P,), and between two, 0 on the diagonals."""

    within: Array
    same_seed: Float[Array, "P P"]
    apart: Float[Array, "P P"]


def prompt_distances(features: Float[Array, "P S d"]) -> PromptDistances:
    """Distances of features of P prompts x S seeds, the same seeds in the same order for each.

    Raises ValueError for fewer than two prompts or seeds, or features without a direction.
    """
    n_prompts, n_seeds = features.shape[:2]
    if n_prompts < 2 or n_seeds < 2:
        raise ValueError(
            f"collapse needs at least 2 prompts and 2 seeds, got {n_prompts} x {n_seeds}: "
            "ask for more"
        )
    u = unit(features)
    same_seed = np.mean([_half_squares(u[:, seed]) for seed in range(n_seeds)], axis=0)
    moved = u - u[:1, :1]  # so that equal pictures give 0 exactly
    spread = moved.var(axis=1).sum(1)  # V_p = E |u_ps - mean_p|^2
    # mean over all pairs of seeds, equal seeds included: (|mean_p - mean_q|^2 + V_p + V_q) / 2
    every = _half_squares(moved.mean(1)) + (spread[:, None] + spread) / 2
    apart = (n_seeds * every - same_seed) / (n_seeds - 1)
    np.fill_diagonal(apart, 0)
    within = spread * n_seeds / (n_seeds - 1)
    return PromptDistances(within=within, same_seed=same_seed, apart=apart)


def prompt_share(distances: PromptDistances, weights: Weights) -> Draws:
    """Draws of the share of the variance that the prompt explains; NaN where nothing varies."""
    within = divide(weights @ distances.within, weights.sum(1))
    apart = _mean_pair(distances.apart, weights)
    return 1 - divide(within, apart)


def cross_prompt(model: PromptDistances, truth: PromptDistances, weights: Weights) -> Draws:
    """Draws of the distance between prompts at one seed, relative to the truth's."""
    return divide(_mean_pair(model.same_seed, weights), _mean_pair(truth.same_seed, weights))


def similarity(distances: PromptDistances) -> Float[Array, "P P"]:
    """Mean cosine similarity of the pictures of prompts p and q at different seeds.

    Diagonal and rest differ in the prompt alone: a healthy model shows a bright diagonal, one that
    ignores its prompts an even picture.
    """
    return 1 - distances.apart - np.diag(distances.within)


def _half_squares(rows: Float[Array, "P d"]) -> Float[Array, "P P"]:
    """|a - b|^2 / 2 of any two rows, which is 1 - cos where they have length 1."""
    moved = rows - rows[0]  # keeps the digits of rows that are nearly equal
    gram = moved @ moved.T
    square = np.diag(gram)
    half = np.maximum((square[:, None] + square - gram - gram.T) / 2, 0)
    np.fill_diagonal(half, 0)
    return half


def _mean_pair(values: Float[Array, "P P"], weights: Weights) -> Draws:
    """Mean over pairs of different prompts; a prompt drawn twice makes no pair with itself."""
    total = ((weights @ values) * weights).sum(1)
    return divide(total, weights.sum(1) ** 2 - (weights**2).sum(1))
