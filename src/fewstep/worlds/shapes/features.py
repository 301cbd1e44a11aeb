"""A small network trained on the Shapes world whose features KID stands on.

The features are the last convolution pooled to 2 x 2, so they see roughly where things are; then
whitened over true pictures, so that faint damage which all pictures share is not drowned by what
they differ in, and bounded, so that a few broken pictures cannot decide alone. |f|^2 / d is about 1
on true pictures, the scale that the cubic kernel (f . g / d + 1)^3 expects.
`recipes/shapes_features.py` trains it from nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.shapes import Pixels

WEIGHTS = Path(__file__).with_name("features.safetensors")
CHANNELS = ((3, 32, 2), (32, 48, 2), (48, 64, 1), (64, 64, 2), (64, 64, 1), (64, 24, 1))
"""(in, out, stride) of the 3 x 3 convolutions."""
WIDTH = 4 * CHANNELS[-1][1]
BOUND = 4.0


class ShapesFeatures(nn.Module):
    """(n, 3, side, side) -> (n, WIDTH) whitened features in (-BOUND, BOUND)."""

    mean: Tensor
    whiten: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, s, padding=1, bias=False) for a, b, s in CHANNELS
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _ in CHANNELS)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("whiten", torch.eye(WIDTH))

    def map(self, images: Pixels) -> Tensor:
        """(n, channels, side / 8, side / 8): what the last convolution sees, place by place."""
        x = 2 * images - 1
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nn.functional.relu(norm(conv(x)))
        return x

    def raw(self, images: Pixels) -> Tensor:
        """(n, WIDTH) features before they are whitened."""
        return nn.functional.adaptive_avg_pool2d(self.map(images), 2).flatten(1)

    def forward(self, images: Pixels) -> Tensor:
        white = (self.raw(images) - self.mean) @ self.whiten
        return BOUND * torch.tanh(white / BOUND)


def load_features(path: Path = WEIGHTS) -> ShapesFeatures:
    """The shipped network, frozen."""
    if not path.is_file():
        raise ValueError(
            f"no feature weights at {path}: train them with "
            "python -m fewstep.recipes.shapes_features"
        )
    net = ShapesFeatures()
    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return net.eval().requires_grad_(False)


@torch.no_grad()
def extract(net: ShapesFeatures, images: Pixels, batch: int = 256) -> np.ndarray:
    """(n, WIDTH) float64, in batches."""
    parts = [net(part.float().cpu()) for part in images.split(batch)]
    return torch.cat(parts).double().numpy() if parts else np.zeros((0, WIDTH))
