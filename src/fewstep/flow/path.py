"""The straight path between a picture and noise, and the four ways to read a point on it.

    x = (1 - sigma) x0 + sigma eps        v = dx/dsigma = eps - x0

(rectified flow; Liu et al. 2022, arXiv:2209.03003). Every function is exact algebra: any two of
x0, eps, x, v at a known sigma give the others. Nothing is cast: float64 in, float64 out.
"""

from __future__ import annotations

from torch import Tensor

from fewstep.shapes import Latent, Sigma


def spread(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma of shape (b,) as (b, 1, 1, ...), so that it multiplies x of shape (b, ...).

    Raises ValueError for every other shape. Broadcasting would accept many of them in silence:
    sigma of shape (4,) scales the *columns* of a batch of 4 x 4 latents.
    """
    if x.ndim < 1 or sigma.shape != x.shape[:1]:
        raise ValueError(
            f"sigma must have the shape (b,), one level for each sample: got {tuple(sigma.shape)} "
            f"for x of shape {tuple(x.shape)}; expand it to ({', '.join(map(str, x.shape[:1]))},)"
        )
    return sigma.reshape(-1, *(1,) * (x.ndim - 1))


def interpolate(x0: Latent, eps: Latent, sigma: Sigma) -> Latent:
    """The point x between x0 (sigma = 0) and eps (sigma = 1)."""
    s = spread(sigma, x0)
    return (1 - s) * x0 + s * eps


def velocity(x0: Latent, eps: Latent) -> Latent:
    """The velocity of the path from x0 to eps; it is the same at every sigma."""
    return eps - x0


def to_x0(x: Latent, v: Latent, sigma: Sigma) -> Latent:
    """The clean end of the straight line through x with velocity v."""
    return x - spread(sigma, x) * v


def to_eps(x: Latent, v: Latent, sigma: Sigma) -> Latent:
    """The noise end of the straight line through x with velocity v."""
    return x + (1 - spread(sigma, x)) * v
