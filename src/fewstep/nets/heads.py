"""LADD's heads: small convolutional judges on the features of a frozen teacher.

One head for each tapped transformer block (Sauer et al. 2024, arXiv:2403.12015, section 3): image
tokens are narrowed, modulated by noise level and text, laid out as the picture they came from, and
judged patch by patch. No head sees another head's features, no sample another sample's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fewstep.rng import seed_of
from fewstep.shapes import Logits, Sigma, Tokens


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    hidden: int = 256
    """Channels of each head; 128 for a teacher of width 128; 256 is meant for one of 3840."""
    groups: int = 8
    """Groups of each GroupNorm; must divide `hidden`."""
    embed: int = 128
    """Width of the joint embedding of noise level and pooled text."""

    def __post_init__(self) -> None:
        for name in ("hidden", "groups", "embed"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.hidden % self.groups:
            raise ValueError(
                f"groups must divide hidden, but {self.groups} does not divide {self.hidden}"
            )
        if self.embed % 2:
            raise ValueError(f"heads.embed must be even (sines and cosines), got {self.embed}")


class Head(nn.Module):
    """Tokens of one block -> one logit for each patch."""

    def __init__(self, cfg: HeadsConfig, width: int) -> None:
        super().__init__()
        c = cfg.hidden
        # Blocks of one transformer differ in scale by orders of magnitude; a head must not care.
        self.normal = nn.LayerNorm(width, elementwise_affine=False)
        self.narrow = nn.Linear(width, c)
        self.film = nn.Linear(cfg.embed, 2 * c)
        self.conv1 = nn.Conv2d(c, c, 3, padding=1)
        self.norm1 = nn.GroupNorm(cfg.groups, c)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1)
        self.norm2 = nn.GroupNorm(cfg.groups, c)
        self.judge = nn.Conv2d(c, 1, 1)

    def forward(
        self, tokens: Tokens, embedding: Float[Tensor, "b e"], grid: tuple[int, int]
    ) -> Float[Tensor, "b n"]:
        h = self.narrow(self.normal(tokens.float()))
        scale, shift = self.film(embedding)[:, None].chunk(2, dim=-1)
        h = F.silu(h * (1 + scale) + shift)
        h = h.transpose(1, 2).unflatten(2, grid)  # row-major tokens -> (b, hidden, rows, columns)
        h = F.silu(self.norm1(self.conv1(h)))
        h = F.silu(self.norm2(self.conv2(h)))
        return self.judge(h).flatten(1)


class Heads(nn.Module):
    """`count` heads over `count` tapped blocks of a teacher with tokens `width` wide.

    width       of the teacher's image tokens      (`Backbone.width`)
    cond_width  of a condition token               (`Backbone.cond_width`)
    seed        decides every initial weight, so all ranks and restarts begin with equal heads and
                no global random state is read or moved
    """

    frequencies: Tensor

    def __init__(
        self, cfg: HeadsConfig, *, width: int, cond_width: int, count: int, seed: int
    ) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"Heads needs at least one tapped layer, got {count}")
        self.count = count
        with torch.device("meta"):  # torch's own initialisation would draw from the global stream
            self.heads = nn.ModuleList(Head(cfg, width) for _ in range(count))
            self.text = nn.Sequential(
                nn.LayerNorm(cond_width, elementwise_affine=False), nn.Linear(cond_width, cfg.embed)
            )
            self.level = nn.Linear(cfg.embed, cfg.embed)
        self.to_empty(device="cpu")
        self.initialise(torch.Generator().manual_seed(seed_of("heads", seed)))
        # From half a period over sigma in [0, 1], so that 0 and 1 differ, up to sixteen.
        steps = torch.linspace(0, 1, cfg.embed // 2)
        self.register_buffer("frequencies", math.pi * 32**steps, persistent=False)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        for module in self.modules():
            match module:
                case nn.Linear() | nn.Conv2d():
                    fan_in = module.weight[0].numel()
                    module.weight.normal_(0, fan_in**-0.5, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                case nn.GroupNorm():
                    module.weight.fill_(1)
                    module.bias.zero_()
                case _:
                    pass
        for head in self.each():
            # Logits begin well inside the hinge's margin of 1, where every sample has a gradient.
            head.judge.weight.mul_(0.2)

    def each(self) -> Iterator[Head]:
        for head in self.heads:
            assert isinstance(head, Head)
            yield head

    def forward(
        self,
        features: Sequence[Tokens],
        sigma: Sigma,
        pooled: Float[Tensor, "b t"],
        grid: tuple[int, int],
    ) -> Logits:
        """Logits of all heads, head after head: (b, count * rows * columns).

        `features[i]` holds the image tokens of the i-th tapped layer, at the noise level `sigma`
        under the condition whose pooled text is `pooled` (b, cond_width); `grid` is the number of
        rows and columns of patches. Raises ValueError where they do not fit together.
        """
        if len(features) != self.count:
            raise ValueError(f"{self.count} heads, but features of {len(features)} layers")
        rows, columns = grid
        for tokens in features:
            if tokens.shape[1] != rows * columns:
                raise ValueError(
                    f"a grid of {rows} x {columns} patches has {rows * columns} tokens, "
                    f"got {tokens.shape[1]}"
                )
        angles = sigma[:, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        embedding = F.silu(self.level(waves) + self.text(pooled.float()))
        logits = [h(f, embedding, grid) for h, f in zip(self.each(), features, strict=True)]
        return torch.cat(logits, dim=1)

    def by_head(self, logits: Logits) -> Float[Tensor, "b heads patches"]:
        """The same logits with one axis for the heads, in the order of the tapped layers."""
        return logits.unflatten(1, (self.count, -1))
