"""KID and CMMD between two image sets that share their prompts.

    KID     squared MMD of the kernel (x . y / d + 1)^3
            Binkowski et al. 2018, arXiv:1801.01401
    CMMD    1000 times the squared MMD of exp(-|x - y|^2 / 200), x and y CLIP features of length 1
            Jayasumana et al. 2024, arXiv:2401.09603

Both are taken over pairs of *different* prompts (see `fewstep.evaluate.kernels`), which is unbiased
where the sets share prompts. `kid_standard` is the usual estimator on the same kernels, to be shown
beside. The CMMD of the paper keeps the pairs of an image with itself and is larger for small sets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate.kernels import (
    MIN_PROMPTS,
    PromptKernels,
    all_pairs,
    between_prompts,
    gaussian,
    prompt_kernels,
)
from fewstep.evaluate.statistics import Draws, Index, Weights

__all__ = [
    "MIN_PROMPTS",
    "PromptKernels",
    "cmmd",
    "cmmd_kernels",
    "kid",
    "kid_standard",
    "prompt_kernels",
]

CMMD_SCALE = 1000


def kid(kernels: PromptKernels, weights: Weights) -> Draws:
    """Draws of the KID, from `prompt_kernels` of the features, under the weights of the prompts."""
    return between_prompts(kernels, weights)


def kid_standard(kernels: PromptKernels, weights: Weights) -> Draws:
    """Draws of the standard KID, which shared prompts bias downwards; for comparison only."""
    return all_pairs(kernels, weights)


def cmmd_kernels(x: NDArray, index_x: Index, y: NDArray, index_y: Index) -> PromptKernels:
    """Kernels for `cmmd` of CLIP features of any length but 0; arguments as `prompt_kernels`."""
    return prompt_kernels(_unit("model", x), index_x, _unit("reference", y), index_y, gaussian)


def cmmd(kernels: PromptKernels, weights: Weights) -> Draws:
    """Draws of the CMMD, from `cmmd_kernels`, under the weights of the prompts."""
    return CMMD_SCALE * between_prompts(kernels, weights)


def _unit(side: str, features: NDArray) -> NDArray:
    features = features.astype(np.float64, copy=False)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    if (length == 0).any():
        raise ValueError(
            f"{side} features hold {int((length == 0).sum())} rows of zeros, which have no "
            "direction: look at its images"
        )
    return features / length
