"""Shapes as types: one name per thing, used in every signature above the families.

Letters: b batch, c latent channels, h w latent rows and columns, H W pixels, n image tokens,
d width of a token, k logits of all heads and patches of one sample.

Convention, everywhere above `families/` (sigma = 1 is pure noise):

    x = (1 - sigma) x0 + sigma eps        v = eps - x0        x0_hat = x - sigma v
"""

from jaxtyping import Float
from torch import Tensor

Latent = Float[Tensor, "b c h w"]
"""x0, eps, x, v and x0_hat alike: the space the flow runs in, float32, dense."""

Sigma = Float[Tensor, "b"]
"""One noise level in [0, 1] for each sample, always float32."""

Tokens = Float[Tensor, "b n d"]
"""Image tokens of one transformer block, row-major over the patches."""

Logits = Float[Tensor, "b k"]
"""Real (positive) against fake (negative), one for each head and patch."""

Pixels = Float[Tensor, "b 3 H W"]
"""RGB in [0, 1]."""
