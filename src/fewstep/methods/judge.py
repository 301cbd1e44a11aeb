"""The judge of an adversarial game: heads on a frozen teacher's view of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.flow import path
from fewstep.methods.losses import Adversarial
from fewstep.nets.heads import Heads
from fewstep.shapes import Latent, Logits, Sigma, Tokens


@dataclass(frozen=True, kw_only=True)
class View:
    """A batch as the heads see it: the teacher's features of re-noised pictures, in context."""

    features: tuple[Tokens, ...]
    sigma: Sigma
    pooled: Tensor
    grid: tuple[int, int]

    def detached(self) -> View:
        return replace(self, features=tuple(f.detach() for f in self.features))


@dataclass(frozen=True, kw_only=True)
class Fake:
    """The student's estimates and the teacher's view of them, with the graph of both."""

    x0_hat: Latent
    view: View


class Judge:
    """Called with a view, it gives the logits of the heads, one head for each of `layers`."""

    def __init__(self, teacher: Backbone, heads: Heads, layers: Sequence[int]) -> None:
        outside = [layer for layer in layers if not 0 <= layer < teacher.depth]
        if outside:
            raise ValueError(
                f"method.layers must lie in 0 .. {teacher.depth - 1} for this teacher, "
                f"got {outside}"
            )
        if heads.count != len(layers):
            raise ValueError(
                f"method.layers names {len(layers)} blocks, but there are {heads.count} heads"
            )
        self.teacher = teacher
        self.heads = heads
        self.layers = layers

    def view(self, x0: Latent, sigma: Sigma, eps: Latent, cond: Cond) -> View:
        """The frozen teacher's features of x0 re-noised to sigma."""
        x = path.interpolate(x0, eps, sigma)
        return View(
            features=tuple(self.teacher.features(x, sigma, cond, self.layers)),
            sigma=sigma,
            pooled=cond.pooled(),
            grid=self.teacher.token_grid(x),
        )

    def __call__(self, view: View) -> Logits:
        return self.heads(view.features, view.sigma, view.pooled, view.grid)

    def misaligned_loss(self, batch: Batch, sigma: Sigma, eps: Latent, game: Adversarial) -> Tensor:
        """Real pictures under the text of the next sample of the micro-batch, judged as fakes.

        The re-noising is that of the real pairs, so only the text can tell them apart. A neighbour
        with the very same condition is no fake and counts as zero. This is the one term whose
        pairs depend on how a batch is split into micro-batches.
        """
        b = len(batch)
        cond = batch.cond[[(i + 1) % b for i in range(b)]]
        differs = torch.tensor(
            [not torch.equal(a, c) for a, c in zip(batch.cond.tokens, cond.tokens, strict=True)],
            device=batch.x0.device,
        )
        with torch.no_grad():
            view = self.view(batch.x0, sigma, eps, cond)
        return (game.fake(self(view)).mean(1) * differs).mean()
