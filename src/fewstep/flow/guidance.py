"""Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) with one meaning of w.

w = 1 is "no guidance", w = 0 ignores the condition, w > 1 exaggerates it. Libraries that write
`v_cond + s (v_cond - v_uncond)` have s = w - 1; their families translate, nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from fewstep.flow.sample import Velocity
from fewstep.shapes import Latent, Sigma

C = TypeVar("C")
"""Conditions, of which the flow knows nothing."""


def cfg(v_cond: Latent, v_uncond: Latent, w: float) -> Latent:
    """v_uncond + w (v_cond - v_uncond)."""
    # lerp is exact at both ends: w = 1 gives v_cond bit for bit.
    return torch.lerp(v_uncond, v_cond, w)


def guided(
    model: Callable[[Latent, Sigma, C], Latent], cond: C, uncond: C | None, w: float
) -> Velocity:
    """The guided velocity as a function of (x, sigma), ready for a sampler.

    With w = 1 each evaluation is one model call and `uncond` may be None; with any other w it is
    two, so that a sampler of N steps makes 2N.
    """
    if w == 1:
        return lambda x, sigma: model(x, sigma, cond)
    if uncond is None:
        raise ValueError(f"guidance w = {w} needs the unconditional input; pass uncond or w = 1")

    def velocity(x: Latent, sigma: Sigma) -> Latent:
        return cfg(model(x, sigma, cond), model(x, sigma, uncond), w)

    return velocity
