"""Damping of the spatial mean: what all image tokens of a block have in common counts less.

In the first steps the mean over the tokens of a block is nearly the same for all seeds and carries
half of the energy: it fixes the layout. Scaling it down there lets the noise decide (DAVE: Kwon et
al. 2026, arXiv:2606.06813).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewstep.families.base import Backbone, Cond
from fewstep.families.zimage import ZImageBackbone
from fewstep.flow.path import spread
from fewstep.shapes import Latent, Sigma, Tokens


def damp(tokens: Tokens, factor: Tensor) -> Tokens:
    """The tokens with their mean multiplied by each sample's factor, (b,); exact where it is 1."""
    mean = tokens.float().mean(1, keepdim=True)
    return tokens + (spread(factor - 1, mean) * mean).to(tokens.dtype)


class DampedZImage(Backbone):
    """A Z-Image over the weights of `backbone`, which stays as it is.

    factor   of the mean of the image tokens after `block`; text tokens are left alone
    above    samples at a higher noise level are damped, others not

    For sampling: ValueError where gradients are wanted under activation checkpointing, which would
    run the block again without the damping.
    """

    def __init__(self, backbone: Backbone, *, factor: float, block: int, above: float) -> None:
        super().__init__()
        plain = backbone.plain()  # a fused pass calls no block, so nothing could be damped in it
        if not isinstance(plain, ZImageBackbone):
            raise TypeError(f"damping needs a Z-Image, got {type(backbone).__name__}")
        plain.check_layers([block])
        self.inner = plain
        self.depth, self.width, self.cond_width = plain.depth, plain.width, plain.cond_width
        self.factor, self.block, self.above = factor, block, above

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        with self._damping(x, sigma):
            return self.inner(x, sigma, cond)

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        # this hook comes before those of the tap, which therefore see damped tokens
        with self._damping(x, sigma):
            return self.inner.features(x, sigma, cond, layers)

    def token_grid(self, x: Latent) -> tuple[int, int]:
        return self.inner.token_grid(x)

    @contextmanager
    def _damping(self, x: Latent, sigma: Sigma) -> Iterator[None]:
        transformer = self.inner.transformer
        if torch.is_grad_enabled() and transformer.gradient_checkpointing:
            raise ValueError(
                "damping has no gradients under activation checkpointing; sample in "
                "torch.no_grad() or call disable_gradient_checkpointing()"
            )
        rows, columns = self.token_grid(x)
        n = rows * columns
        factor = torch.where(sigma > self.above, self.factor, torch.ones_like(sigma))

        def hook(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
            # image tokens come first, then their padding and the text
            return torch.cat([damp(out[:, :n], factor), out[:, n:]], 1)

        handle = transformer.layers[self.block].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
