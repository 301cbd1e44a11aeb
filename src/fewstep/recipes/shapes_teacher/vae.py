"""Stage 1 of the Shapes teacher: a tiny AutoencoderKL, 64 x 64 RGB to 8 x 16 x 16.

Loss: squared plus a little absolute error in [-1, 1], and a KL weight just large enough to keep
the latents smooth. scaling_factor and shift_factor are measured at the end, so that the latents
that the flow sees have mean 0 and standard deviation 1.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from fewstep.worlds.shapes.prompts import CONCEPT, Role, Spec, draw_in_split, scene_for
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import WorldConfig, draw_concept


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    world: WorldConfig = field(default_factory=WorldConfig)
    steps: int = 2400
    batch: int = 16
    lr: float = 2e-3
    kl: float = 1e-4
    concept_share: float = 0.25
    seed: int = 0


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(24, 48, 48),
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1, norm_num_groups=8, sample_size=64, use_quant_conv=False,
        use_post_quant_conv=False, mid_block_add_attention=False,
    )  # fmt: skip


def pictures(cfg: VaeConfig, n: int, rng: np.random.Generator) -> torch.Tensor:
    """(n, 3, side, side) in [0, 1]: true pictures of training prompts and of concepts."""
    scenes = []
    for _ in range(n):
        if rng.random() < cfg.concept_share:
            spec = Spec((Role(CONCEPT, count=int(rng.integers(1, 3))),))
            scenes.append(scene_for(cfg.world, spec, rng, draw_concept(rng)))
        else:
            scenes.append(scene_for(cfg.world, draw_in_split(cfg.world, "train", rng), rng))
    return torch.from_numpy(render(scenes, cfg.world.side))


def train_vae(cfg: VaeConfig, out: Path) -> AutoencoderKL:
    torch.manual_seed(cfg.seed)
    vae = new_vae().to(memory_format=torch.channels_last)
    optim = torch.optim.AdamW(vae.parameters(), lr=cfg.lr, weight_decay=0.0, betas=(0.9, 0.99))
    start, seen = time.time(), 0.0
    for step in range(cfg.steps):
        warm, left = min(1.0, (step + 1) / 100), 1 - step / cfg.steps
        for group in optim.param_groups:
            group["lr"] = cfg.lr * warm * (0.5 - 0.5 * math.cos(math.pi * left))
        x = pictures(cfg, cfg.batch, np.random.default_rng((cfg.seed, step))) * 2 - 1
        x = x.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample.float()
        error = (y - x).square().mean()
        loss = error + 0.1 * (y - x).abs().mean() + cfg.kl * posterior.kl().mean() / (8 * 16 * 16)
        optim.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optim.step()
        seen = 0.98 * seen + 0.02 * float(error) if step else float(error)
        if step % 100 == 0:
            psnr = 10 * math.log10(4 / seen)
            print(f"vae {step}/{cfg.steps}  {psnr:.2f} dB  {time.time() - start:.0f} s", flush=True)
    vae = vae.to(memory_format=torch.contiguous_format).eval()
    x = pictures(cfg, 512, np.random.default_rng((cfg.seed, cfg.steps)))
    with torch.no_grad():
        latents = torch.cat([vae.encode(part * 2 - 1).latent_dist.mean for part in x.split(32)])
        error = torch.cat([vae.decode(z).sample for z in latents.split(32)]) - (x * 2 - 1)
    vae.register_to_config(
        scaling_factor=round(1 / float(latents.std()), 4),
        shift_factor=round(float(latents.mean()), 4),
    )
    print(f"vae done: {10 * math.log10(4 / float(error.square().mean())):.2f} dB on new pictures, "
          f"scale {vae.config.scaling_factor}, shift {vae.config.shift_factor}")  # fmt: skip
    vae.save_pretrained(out)
    return vae
