"""Two losses that only help the Shapes teacher to learn; nothing of them is in the shipped model.

Both use that the world knows its scenes. `Sight` makes the vision tower keep what is in a picture.
`Plan` makes the middle of the transformer know, at every image token, the object to be drawn there:
the idea of representation alignment (REPA, arXiv 2410.06940), with the scene itself as the
representation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.families.base import Cond
from fewstep.recipes.shapes_teacher.parts import PICTURE_TOKENS, WIDTH
from fewstep.shapes import Pixels, Tokens
from fewstep.worlds.shapes.scene import Look, Scene

PLAN = 14
"""Numbers of a token's plan: covered or not, then 13 of the object (`plans`)."""


def plans(scenes: Sequence[Scene], rows: int) -> Tensor:
    """(b, rows * rows, PLAN): what stands at each image token.

    The first number is 1 where the token's centre lies in an object's circumscribed circle. The
    others, 0 elsewhere: one-hot of 3 to 6 points, inner, roundness, colour in [-1, 1], offset of
    the centre in radii, and cosine and sine of the angle that a tip returns to after one turn.
    """
    spot = (np.arange(rows) + 0.5) / rows
    at = np.stack(np.meshgrid(spot, spot), -1).reshape(-1, 2)
    out = np.zeros((len(scenes), rows * rows, PLAN), np.float32)
    for scene, row in zip(scenes, out, strict=True):
        for thing in scene.things:
            offset = (np.array([thing.x, thing.y]) - at) / thing.radius
            inside = np.linalg.norm(offset, axis=1) < thing.outline.reach()
            outline, n = thing.outline, int(inside.sum())
            turn = outline.points * thing.angle
            same = [
                *np.eye(4)[outline.points - 3], outline.inner, outline.roundness,
                *(2 * np.array(thing.colour) - 1),
            ]  # fmt: skip
            tips = [(1 - outline.roundness) * f(turn) for f in (math.cos, math.sin)]
            row[inside, 0] = 1
            row[inside, 1:10] = same
            row[inside, 10:12] = offset[inside]
            row[inside, 12:14] = np.tile(tips, (n, 1))
    return torch.from_numpy(out)


class Plan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.tell = nn.Linear(WIDTH, PLAN)

    def loss(self, tokens: Tokens, truth: Tensor) -> Tensor:
        """Mean squared error of the coverage, and of the object's numbers where there is one."""
        guess = self.tell(self.norm(tokens.float()))
        cover = truth[..., :1]
        error = (guess[..., 1:] - truth[..., 1:]).square() * cover
        of_objects = error.sum() / (cover.sum() * (PLAN - 1)).clamp(min=1)
        return F.mse_loss(guess[..., :1], cover) + of_objects


class Sight(nn.Module):
    """What a picture's condition must tell, besides what the flow asks of it; for training only.

    Each picture token gives back its own part of the picture, at half resolution; all tokens
    together describe the concept by eight numbers: cosine and sine of the hue, logits of 3 to 6
    points, inner, roundness.
    """

    def __init__(self) -> None:
        super().__init__()
        self.describe = nn.Linear(WIDTH, 8)
        self.redraw = nn.Linear(WIDTH, 3 * 11 * 11)

    def loss(self, cond: Cond, images: Pixels, looks: Sequence[Look]) -> Tensor:
        """`looks` belong to the first rows of the batch; all rows are redrawn."""
        guess = self.describe(cond[: len(looks)].pooled())
        hue = torch.tensor([math.radians(look.hue) for look in looks])
        points = torch.tensor([look.outline.points - 3 for look in looks])
        bend = torch.tensor([(look.outline.inner, look.outline.roundness) for look in looks])
        tokens = torch.stack([t[PICTURE_TOKENS] for t in cond.tokens])
        small = F.interpolate(images, (33, 33), mode="area") * 2 - 1
        parts = small.view(-1, 3, 3, 11, 3, 11).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return (
            F.mse_loss(guess[:, :2], torch.stack([hue.cos(), hue.sin()], 1))
            + 0.1 * F.cross_entropy(guess[:, 2:6], points)
            + F.mse_loss(guess[:, 6:], bend)
            + 3 * F.mse_loss(self.redraw(tokens), parts)
        )
