"""What a model family must offer: the border behind which every convention of a model is hidden.

Above this border there is one time (sigma, 1 = noise), one sign (v = eps - x0), dense latents and
`Cond`. Contract tests (`tests/contract`) hold each family to the real diffusers pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fewstep.flow.sample import SamplerName
from fewstep.shapes import Latent, Pixels, Sigma, Tokens


@dataclass(frozen=True)
class Cond:
    """The conditions of a batch: one unpadded token sequence, (length, width), for each sample."""

    tokens: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Sequence[int]) -> Cond:
        if isinstance(rows, slice):
            return Cond(self.tokens[rows])
        return Cond(tuple(self.tokens[i] for i in rows))

    def pooled(self) -> Tensor:
        """(b, width): the mean over each sample's own tokens; no padding is involved."""
        return torch.stack([t.float().mean(0) for t in self.tokens])

    def to(self, device: torch.device | str) -> Cond:
        return Cond(tuple(t.to(device) for t in self.tokens))

    @staticmethod
    def cat(parts: Sequence[Cond]) -> Cond:
        return Cond(tuple(t for part in parts for t in part.tokens))


class Backbone(nn.Module):
    """A velocity model in the one convention. Calling it is asking for the velocity.

    Subclasses live in `families/`; parameters and buffers are those of the real transformer.
    """

    depth: int
    """Number of transformer blocks that `features` can tap: layers 0 .. depth - 1."""
    width: int
    """Width of an image token."""
    cond_width: int
    """Width of a condition token."""
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Linear layers that an adapter can change, by group: names as adapter files write them, with
    * for the number of a block."""

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        """v = eps - x0, float32, at the noise level sigma of each sample."""
        raise TypeError(f"{type(self).__name__} must define forward(x, sigma, cond)")

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        """Image tokens after each of `layers` (in that order); stops after the deepest one."""
        raise TypeError(f"{type(self).__name__} must define features(x, sigma, cond, layers)")

    def plain(self) -> Backbone:
        """The same weights run by the library's own code, as a reader of the directory does."""
        return self

    def damped(self, *, factor: float, block: int, above: float) -> Backbone:
        """One over the same weights in which the mean of the image tokens after `block` is
        multiplied by `factor` at levels above `above`."""
        raise TypeError(f"{type(self).__name__} must define damped(factor, block, above)")

    def token_grid(self, x: Latent) -> tuple[int, int]:
        """Rows and columns of the patches of x: n = rows * columns image tokens."""
        raise TypeError(f"{type(self).__name__} must define token_grid(x)")


@runtime_checkable
class Family(Protocol):
    """A loaded model directory: the backbone and everything around it."""

    backbone: Backbone

    @property
    def unit(self) -> int:
        """Heights and widths of pictures are multiples of so many pixels."""
        ...

    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        """Conditions of the prompts; with images, of each prompt read beside its picture."""
        ...

    def encode_image(self, images: Pixels) -> Latent: ...

    def decode(self, x0: Latent) -> Pixels: ...

    def decode_with_gradients(self, x0: Latent) -> Tensor:
        """As `decode`, not clamped to [0, 1] and differentiable: for losses on pixels."""
        ...

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]: ...

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The model's own inference grid: steps + 1 values from 1 down to 0, shift applied."""
        ...

    @property
    def sampler(self) -> SamplerName:
        """What the model's own scheduler does between two levels."""
        ...

    def pipeline_guidance(self, w: float) -> float:
        """What the family's diffusers pipeline calls the guidance w."""
        ...

    def fingerprint(self, backbone: Backbone | None = None) -> str:
        """Hash of every weight that decides what the model generates, with `backbone` in place of
        the family's own where one is given."""
        ...

    def save(self, directory: Path, backbone: Backbone, sampler: SamplerName | None = None) -> None:
        """Write an ordinary diffusers directory that holds this family around `backbone`, to be
        sampled by `sampler`; None keeps the family's own."""
        ...
