"""A small real backbone for tests of what stands above the families: no stub, no fixed answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.rng import Rng
from fewstep.shapes import Latent, Sigma, Tokens


class ToyBackbone(Backbone):
    """Patches -> residual blocks that mix picture, text and noise level -> velocity. Any size."""

    def __init__(
        self, *, channels: int = 2, width: int = 16, cond_width: int = 6, depth: int = 3,
        patch: int = 2, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.depth, self.width, self.cond_width, self.patch = depth, width, cond_width, patch
        self.enter = nn.Linear(channels * patch**2, width)
        self.context = nn.Linear(cond_width + 2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.leave = nn.Linear(width, channels * patch**2)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(0, p.shape[-1] ** -0.5, generator=generator)
        self.forwards = 0

    def token_grid(self, x: Latent) -> tuple[int, int]:
        return x.shape[2] // self.patch, x.shape[3] // self.patch

    def walk(self, x: Latent, sigma: Sigma, cond: Cond, layers: int) -> list[Tokens]:
        self.forwards += 1
        level = torch.stack([sigma, (3 * sigma).sin()], dim=1)
        context = self.context(torch.cat([cond.pooled(), level], dim=1))[:, None]
        patches = nn.functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        h = self.enter(patches)
        outputs: list[Tensor] = []
        for block in list(self.blocks)[:layers]:
            around = h.mean(1, keepdim=True) + context
            h = h + block(torch.cat([h, around.expand_as(h)], dim=-1))
            outputs.append(h)
        return outputs

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        patches = self.leave(self.walk(x, sigma, cond, self.depth)[-1]).transpose(1, 2)
        return nn.functional.fold(patches, (x.shape[2], x.shape[3]), self.patch, stride=self.patch)

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        outputs = self.walk(x, sigma, cond, max(layers) + 1)
        return [outputs[i] for i in layers]


def toy_batch(
    b: int = 4, *, channels: int = 2, rows: int = 4, columns: int = 6, cond_width: int = 6,
    seed: int = 0,
) -> Batch:  # fmt: skip
    """Random teacher samples under texts of different lengths."""
    ids = tuple(f"{seed}-{i}" for i in range(b))
    rng = Rng(seed, 0, "data", ids)
    tokens = tuple(t[: 2 + i % 3] for i, t in enumerate(rng.randn(4, cond_width)))
    return Batch(ids=ids, x0=rng.randn(channels, rows, columns), cond=Cond(tokens))
