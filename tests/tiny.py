"""A real Z-Image at tiny size with random weights, for tests: real classes, no mocks."""

from __future__ import annotations

import torch

from fewstep.families.pictures import PictureReader
from fewstep.families.zimage import ZImage
from fewstep.recipes.shapes_teacher.parts import new_model
from fewstep.recipes.shapes_teacher.vae import new_vae


def tiny_zimage(seed: int = 0) -> ZImage:
    """8 latent channels, 16 x 16 latents for 64 x 64 pixels, 6 blocks, reads pictures."""
    torch.manual_seed(seed)
    vae = new_vae()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    pipeline, pictures = new_model(vae, seed)
    # a new final layer may be tiny; scale it so that velocities are of the order of the data
    with torch.no_grad():
        for p in pipeline.transformer.all_final_layer.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return ZImage(pipeline, pictures)


def tiny_pictures(family: ZImage) -> PictureReader:
    assert family.pictures is not None
    return family.pictures
