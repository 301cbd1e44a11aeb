"""Every metric of a set of pictures beside a reference, as draws of one bootstrap over prompts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate import collapse, diversity, fidelity, frechet
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.neighbours import neighbour_draws, neighbours
from fewstep.evaluate.statistics import (
    Draws,
    Estimate,
    Weights,
    divide,
    estimate,
    estimate_share,
    estimate_share_difference,
    mean,
)

Array = NDArray[np.float64]

SHARES = ("adherence", "category_", "precision", "recall", "coverage")
"""How the names of shares of pictures begin: all or none of them need another interval."""


def suffix(extractor: str) -> str:
    """What the metrics of an extractor's features are called after."""
    return "" if extractor == "shapes" else f"_{extractor}"


def draws(model: Measures, reference: Measures, weights: Weights) -> dict[str, Draws]:
    """Draws of every metric of a model; with the same weights, those of two models are paired."""
    if model.prompts != reference.prompts:
        raise ValueError("model and truth must be made from the same prompts in the same order")
    if weights.shape[1] != len(reference.prompts):
        raise ValueError(
            f"weights are for {weights.shape[1]} prompts, the images for {len(reference.prompts)}"
        )
    return {
        **fidelity_draws(model, reference, weights),
        **adherence_draws(model, weights),
        **diversity_draws(model, reference, weights),
        **quality_draws(model, reference, weights),
    }


def fidelity_draws(model: Measures, reference: Measures, weights: Weights) -> dict[str, Draws]:
    """Distances to the reference, and how many of either lie among the other's neighbours."""
    found: dict[str, Draws] = {}
    for name, own in model.features.items():
        theirs, end = reference.features[name], suffix(name)
        sets = own, model.index, theirs, reference.index
        kernels = fidelity.prompt_kernels(*sets)
        found[f"kid{end}"] = fidelity.kid(kernels, weights)
        found[f"kid_standard{end}"] = fidelity.kid_standard(kernels, weights)
        if name == "clip":
            found[f"cmmd{end}"] = fidelity.cmmd(fidelity.cmmd_kernels(*sets), weights)
        if not too_few(own, theirs):
            found[f"fd{end}"] = frechet.frechet(*sets, weights)
        near = neighbour_draws(neighbours(own, theirs), model.index, reference.index, weights)
        found |= {f"{key}{end}": values for key, values in near.items()}
    return found


def too_few(own: Array, theirs: Array) -> bool:
    """Whether FD would be mostly bias."""
    return min(len(own), len(theirs)) < frechet.IMAGES_PER_WIDTH * own.shape[1]


def refused(model: Measures, reference: Measures) -> list[str]:
    """What was not measured, and why."""
    return [
        f"FD of {name} features (width {own.shape[1]}) needs at least "
        f"{frechet.IMAGES_PER_WIDTH * own.shape[1]} pictures a model and was left out; KID has no "
        "such limit."
        for name, own in model.features.items()
        if too_few(own, reference.features[name])
    ]


def adherence_draws(model: Measures, weights: Weights) -> dict[str, Draws]:
    """Shares of pictures: in all, of the prompts that ask for each part, and of those of each kind
    (as GenEval has it, Ghosh et al. 2023, arXiv:2310.11513). A part that no prompt asks for has no
    share."""
    asking = prompts_asking(model)
    found = {
        "adherence" if part == "all" else f"adherence_{part}": mean(right, model.index, weights)
        for part, right in model.adherence.items()
        if asking[part]
    }
    for kind, of_kind in model.categories.items():
        right = np.where(of_kind[model.index], model.adherence["all"], np.nan)
        found[f"category_{kind}"] = mean(right, model.index, weights)
    return found


def prompts_asking(model: Measures) -> dict[str, int]:
    """How many prompts ask for each part; all of them for "all"."""
    return {
        part: len(np.unique(model.index[~np.isnan(right.astype(np.float64))]))
        for part, right in model.adherence.items()
    }


def diversity_draws(model: Measures, reference: Measures, weights: Weights) -> dict[str, Draws]:
    """How much the seeds of a prompt differ, and whether the prompts do."""
    n, seeds = model.size
    each = np.arange(n)
    found: dict[str, Draws] = {}
    for name, own in model.spreads.items():
        if name == "layout":
            found["layout_diversity"] = diversity.ratio(own, reference.spreads[name], weights)
        else:
            found[name] = mean(own, each, weights)
    for name, own in model.features.items() if seeds > 1 else ():
        end = suffix(name)
        distance = diversity.cosine_distance(own, model.index, n)
        found[f"distance{end}"] = mean(distance, each, weights)
        found[f"vendi{end}"] = mean(diversity.vendi(own, model.index, n), each, weights)
        apart = collapse.prompt_distances(own.reshape(n, seeds, -1))
        found[f"prompt_share{end}"] = collapse.prompt_share(apart, weights)
        if reference.n_seeds > 1:
            theirs = reference.features[name].reshape(n, reference.n_seeds, -1)
            truth = collapse.prompt_distances(theirs)
            found[f"cross_prompt{end}"] = collapse.cross_prompt(apart, truth, weights)
    return found


def quality_draws(model: Measures, reference: Measures, weights: Weights) -> dict[str, Draws]:
    """Ratios to the reference of what both were measured for, and the scores as they are."""
    ratios = {
        name: divide(
            mean(own, model.index, weights),
            mean(reference.pictures[name], reference.index, weights),
        )
        for name, own in model.pictures.items()
        if name in reference.pictures
    }
    scores = {name: mean(own, model.index, weights) for name, own in model.scores.items()}
    return ratios | scores


def evaluate(model: Measures, reference: Measures, weights: Weights) -> dict[str, Estimate]:
    """Every metric of a model with its interval over prompts."""
    return estimates(model, draws(model, reference, weights))


def estimates(model: Measures, found: Mapping[str, Draws]) -> dict[str, Estimate]:
    """The intervals of draws; a category and a part count the prompts that they are of."""
    seeds = model.n_seeds
    return {
        key: (estimate_share if key.startswith(SHARES) else estimate)(
            values, prompts_of(model, key), seeds
        )
        for key, values in found.items()
    }


def prompts_of(model: Measures, key: str) -> int:
    """How many prompts a metric stands on."""
    own = {f"category_{kind}": int(of.sum()) for kind, of in model.categories.items()}
    own |= {f"adherence_{part}": count for part, count in prompts_asking(model).items()}
    return own.get(key, len(model.prompts))


def compare(a: Measures, b: Measures, reference: Measures, weights: Weights) -> dict[str, Estimate]:
    """Paired differences a - b of every metric that both have."""
    of_a, of_b = draws(a, reference, weights), draws(b, reference, weights)
    return {key: minus(key, a, b, of_a[key], of_b[key]) for key in of_a if key in of_b}


def minus(key: str, a: Measures, b: Measures, of_a: Draws, of_b: Draws) -> Estimate:
    """The paired difference of one metric, from its draws of a and of b on the same prompts."""
    size = prompts_of(a, key), min(a.n_seeds, b.n_seeds)
    if key.startswith(SHARES):
        return estimate_share_difference(of_a, of_b, *size)
    return estimate(of_a - of_b, *size)
