"""All pairwise LPIPS distances of the seeds of a prompt, from one trunk pass an image.

LPIPS is a squared Euclidean distance between embeddings e (`lpips`), so n images need n passes and
the products of their embeddings, where n (n - 1) / 2 pairs of passes would otherwise be made:

    d(i, j) = G_ii + G_jj - 2 G_ij        G_ij = e_i . e_j

That difference loses its digits exactly where diversity collapses: with embeddings of length 1 in
float32 it is wrong by 5 % at d = 5e-6. Hence the embedding of the first image is subtracted from
all before they are multiplied: copies then give 0 exactly, and what the images share costs no
digits. Float32 is enough for what is left unless some pair is much closer than the others, or all
are nearly the same (`clear`); such a layer is computed again in float64. The rounding of a float32
trunk remains (`benchmarks/lpips_speed.py` measures both); a network in float64 (`net.double()`) has
none.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from fewstep.evaluate.lpips import EPS, LPIPS
from fewstep.evaluate.statistics import Index
from fewstep.shapes import Pixels

STRIP = 2**18
"""Numbers of an embedding at a time: they stay in a processor's cache, and memory beyond that of
the trunk does not grow with the pictures."""

PASS = 2**19
"""Pixels in one pass of the trunk, unless a single prompt has more: small pictures run faster in
large batches, large ones would only fill the memory."""


def pairwise_lpips(net: LPIPS, images: Pixels) -> NDArray[np.float64]:
    """(n, n): LPIPS distance of any two of the images, symmetric, 0 on the diagonal."""
    return distances(net, images, [len(images)])[0]


def mean_pairwise_lpips(
    net: LPIPS, images: Pixels, index: Index, n_prompts: int
) -> NDArray[np.float64]:
    """(n_prompts,): mean LPIPS over pairs of images of one prompt; NaN for fewer than two images.

    `index`, (n,), numbers the prompt of each image from 0.
    """
    result = np.full(n_prompts, np.nan)
    seeds = np.bincount(index, minlength=n_prompts)
    known = np.flatnonzero(seeds > 1)
    together = max(1, PASS // (int(seeds.max()) * images[0, 0].numel()))
    for start in range(0, len(known), together):
        prompts = known[start : start + together]
        rows = np.concatenate([np.flatnonzero(index == p) for p in prompts])
        # a view where the pictures lie side by side
        sets = images[rows[0] : rows[-1] + 1] if (np.diff(rows) == 1).all() else images[rows]
        sizes = seeds[prompts].tolist()
        for prompt, found in zip(prompts, distances(net, sets, sizes), strict=True):
            result[prompt] = found.sum() / (len(found) * (len(found) - 1))
    return result


@torch.no_grad()
def distances(net: LPIPS, images: Pixels, sizes: list[int]) -> list[NDArray[np.float64]]:
    """The (n, n) distances within each of the sets that follow one another in `images`, from one
    pass over all of them."""
    totals = [torch.zeros(n, n, dtype=torch.float64) for n in sizes]
    for features, w in zip(net.maps(images), net.weights, strict=True):
        for total, own in zip(totals, features.split(sizes), strict=True):
            total += layer_distances(own, w).cpu()
    return [total.numpy() for total in totals]


def layer_distances(features: Float[Tensor, "n c h w"], w: Tensor) -> Float[Tensor, "n n"]:
    """(n, n) float64: what one layer, whose weights w are (c,), adds to the distances."""
    found = distances_in(torch.float32, features, w)
    if features.dtype == torch.float32 and clear(found, w):
        return found
    return distances_in(torch.float64, features, w)


def clear(distance: Float[Tensor, "n n"], w: Tensor) -> bool:
    """Whether float32 was enough: every two of the images are so far apart that rounding is at most
    a few 1e-7 of it.

    An embedding is rounded by 6e-8 of its length, at most sqrt(max w), and products by 6e-8 of the
    squared distances from the first image.
    """
    apart = distance.clone().fill_diagonal_(torch.inf)
    least = torch.maximum(1e-3 * w.max().double(), distance[0].max() / 4)
    return bool(apart.min() >= least)


def distances_in(
    dtype: torch.dtype, features: Float[Tensor, "n c h w"], w: Tensor
) -> Float[Tensor, "n n"]:
    """As `layer_distances`, with embeddings and the products of a strip in `dtype`."""
    n, width = features.shape[:2]
    root = w.to(dtype).sqrt()[:, None]
    gram = torch.zeros(n, n, dtype=torch.float64, device=features.device)
    for strip in features.flatten(2).split(max(1, STRIP // (n * width)), dim=2):
        # as `lpips.unit`, but in one piece of memory: a fresh one costs as much as the arithmetic
        f = strip.to(dtype)
        e = f.square()
        torch.div(f, e.sum(1, keepdim=True).sqrt_().add_(EPS), out=e)
        e -= e[:1].clone()
        e *= root
        gram += e.flatten(1) @ e.flatten(1).T
    square = gram.diagonal()
    # G is symmetric only up to rounding, which also leaves copies among others just below 0
    both = gram + gram.T
    distance = (square[:, None] + square - both).clamp(min=0).fill_diagonal_(0)
    return distance / features[0, 0].numel()
