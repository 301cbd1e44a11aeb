"""Trains the feature network of the Shapes world from nothing and ships its weights.

Hardware: one thread of a CPU, about three minutes. Place by place, the network tells from the last
map of features, linearly, how much of which colour and shape is there, the background, and how much
the picture was blurred. Noise is added to some pictures and not told: unasked, it would rule KID.

    python -m fewstep.recipes.shapes_features
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.rng import seed_of
from fewstep.worlds.shapes.features import CHANNELS, WEIGHTS, ShapesFeatures
from fewstep.worlds.shapes.prompts import Spec, draw_spec, scene_for
from fewstep.worlds.shapes.render import coverage, render
from fewstep.worlds.shapes.scene import CROWDED, Scene, WorldConfig

STRIDE = math.prod(stride for _, _, stride in CHANNELS)


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    steps: int = 1500
    batch: int = 32
    lr: float = 4e-3
    seed: int = 0
    damaged: float = 0.5
    """Share of the pictures that are blurred, and likewise of those that are noised."""
    blur: float = 2.0
    """Largest standard deviation of the blur, in pixels."""
    noise: float = 0.2
    """Largest standard deviation of the noise."""
    whitened: int = 32
    """Batches of 64 true pictures over which the features are whitened."""
    floor: float = 1.0
    """Added to each variance, relative to their mean: where true pictures hardly differ, rounding
    and the faintest noise would speak loudest without it."""
    out: Path = WEIGHTS


@dataclass(frozen=True)
class Lesson:
    """Pictures (n, 3, side, side) and what there is to tell of them."""

    images: Tensor
    colour: Tensor
    """(n, 1 + colours, cells, cells): share of each cell that shows the background, a colour."""
    shape: Tensor
    """(n, 1 + shapes, cells, cells): share of each cell that shows the background, a shape."""
    whole: Tensor
    """(n, 4): the background's RGB, and the blur relative to its largest."""


def draw_lesson(cfg: FeaturesConfig, world: WorldConfig, rng: np.random.Generator) -> Lesson:
    specs = [draw_spec(world, rng) for _ in range(cfg.batch)]
    scenes = [scene_for(world, spec, rng) for spec in specs]
    clean = torch.from_numpy(render(scenes, world.side))
    hit = rng.random((cfg.batch, 2)) < cfg.damaged
    damage = torch.from_numpy((hit * rng.uniform(0, 1, (cfg.batch, 2))).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
    level = cfg.noise * damage[:, 1, None, None, None]
    backgrounds = torch.tensor([s.background for s in scenes])
    return Lesson(
        blurred(clean, cfg.blur * damage[:, 0]) + level * noise,
        *shares(world, specs, scenes),
        torch.cat([backgrounds, damage[:, :1]], 1),
    )


def shares(
    world: WorldConfig, specs: Sequence[Spec], scenes: Sequence[Scene]
) -> tuple[Tensor, Tensor]:
    """The maps `colour` and `shape` of a lesson."""
    cells = world.side // STRIDE
    colour = np.zeros((len(specs), 1 + len(world.colours), cells, cells), np.float32)
    shape = np.zeros((len(specs), 1 + len(world.shapes), cells, cells), np.float32)
    cover = iter(coverage([thing for scene in scenes for thing in scene.things], world.side))
    for i, spec in enumerate(specs):
        for role in spec.roles:
            for _ in range(role.count):
                part = next(cover).reshape(cells, STRIDE, cells, STRIDE).mean((1, 3))
                colour[i, 1 + world.colours.index(str(role.colour))] += part
                shape[i, 1 + world.shapes.index(role.shape)] += part
    for table in (colour, shape):
        table[:, 0] = 1 - table[:, 1:].sum(1)
    return torch.from_numpy(colour), torch.from_numpy(shape)


def blurred(images: Tensor, sigma: Tensor, reach: int = 6) -> Tensor:
    """Each picture under a Gaussian of its own width, (n,) in pixels, cut off at `reach`."""
    taps = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (taps / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    n, _, rows, columns = images.shape
    x = F.pad(images.reshape(1, 3 * n, rows, columns), (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, None, None, :], groups=3 * n)
    return F.conv2d(x, kernel[:, None, :, None], groups=3 * n).reshape(images.shape)


def train(cfg: FeaturesConfig, world: WorldConfig) -> ShapesFeatures:
    """The trained network, its features whitened over true pictures."""
    seed = seed_of("shapes features", cfg.seed)
    rng = np.random.default_rng(seed)
    sizes = (1 + len(world.colours), 1 + len(world.shapes), 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ShapesFeatures()
        head = nn.Conv2d(CHANNELS[-1][1], sum(sizes), 1)
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, cfg.lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 30) * (1 + math.cos(math.pi * i / cfg.steps)) / 2
    )
    for step in range(cfg.steps):
        lesson = draw_lesson(cfg, world, rng)
        colour, shape, whole = head(net.map(lesson.images)).split(sizes, 1)
        losses = {
            "colour": excess(colour, lesson.colour),
            "shape": excess(shape, lesson.shape),
            "whole": 4 * (whole - lesson.whole[:, :, None, None]).square().mean(),
        }
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        rate.step()
        if step % 100 == 0 or step == cfg.steps - 1:
            print(
                f"step {step:5d}", *(f"{k} {v.item():.4f}" for k, v in losses.items()), flush=True
            )
    whiten(net, cfg, world, rng)
    return net


def excess(logits: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy with the true shares less its minimum: 0 when they are told exactly."""
    entropy = -torch.xlogy(share, share).sum(1).mean()
    return F.cross_entropy(logits, share) - entropy


@torch.no_grad()
def whiten(
    net: ShapesFeatures, cfg: FeaturesConfig, world: WorldConfig, rng: np.random.Generator
) -> None:
    """Mean 0, mean square 1 and nearly no correlation of the features over true pictures."""
    net.eval()
    parts = []
    for _ in range(cfg.whitened):
        scenes = [scene_for(world, draw_spec(world, rng), rng) for _ in range(64)]
        parts.append(net.raw(torch.from_numpy(render(scenes, world.side))))
    raw = torch.cat(parts).double()
    variance, axes = torch.linalg.eigh(torch.cov(raw.T))
    matrix = axes / (variance + cfg.floor * variance.mean()).sqrt()
    net.mean.copy_(raw.mean(0))
    net.whiten.copy_(matrix / ((raw - raw.mean(0)) @ matrix).square().mean().sqrt())


def main(cfg: FeaturesConfig | None = None) -> None:
    cfg = cfg or FeaturesConfig()
    net = train(cfg, CROWDED)
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, cfg.out)
    print(f"wrote {cfg.out}")


if __name__ == "__main__":
    main()
