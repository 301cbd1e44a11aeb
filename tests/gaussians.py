"""Backbones whose every answer is known in closed form: Gaussian pictures of independent pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewstep.families.base import Backbone, Cond
from fewstep.flow.path import spread
from fewstep.shapes import Latent, Sigma


class Gaussian(Backbone):
    """The velocity of x0 ~ N(mean, std^2):  x0_hat = E[x0 | x]; v = (x - x0_hat) / sigma.

    A condition whose first number is 0 is that of no prompt: its pictures are N(0, 1).
    """

    cond_width = 1

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.log_std = nn.Parameter(torch.tensor(std).log())

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        known = spread(torch.stack([t[0, 0] for t in cond.tokens]), x)
        mean, var = known * self.mean, torch.where(known > 0, (2 * self.log_std).exp(), 1.0)
        s = spread(sigma, x)
        gain = (1 - s) * var / ((1 - s) ** 2 * var + s**2)
        return (x - mean - gain * (x - (1 - s) * mean)) / s


class Affine(Backbone):
    """A student of one step: x0_hat = mean + std x."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.std = nn.Parameter(torch.tensor(std))

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        return (x - self.mean - self.std * x) / spread(sigma, x)


def known(n: int) -> Cond:
    return Cond((torch.ones(1, 1),) * n)


NO_PROMPT = Cond((torch.zeros(1, 1),))


def numbers(*values: Tensor) -> list[float]:
    return [value.item() for value in values]
