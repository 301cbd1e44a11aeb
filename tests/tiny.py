"""A real Z-Image at tiny size with random weights, for tests: real classes, no mocks."""

from __future__ import annotations

import torch
from diffusers import ZImageTransformer2DModel

from fewstep.families.pictures import PictureReader
from fewstep.families.zimage import ZImage
from fewstep.recipes.shapes_teacher.parts import new_model
from fewstep.recipes.shapes_teacher.vae import new_vae


def narrow_transformer() -> ZImageTransformer2DModel:
    """As deep as that of Shapes and half as wide, which is a quarter of the work."""
    model = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=8, dim=64, n_layers=6,
        n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=128, axes_dims=[4, 6, 6],
        axes_lens=[256, 64, 64],
    )  # fmt: skip
    torch.nn.init.normal_(model.x_pad_token, std=0.02)
    torch.nn.init.normal_(model.cap_pad_token, std=0.02)
    return model.eval()


def tiny_zimage(seed: int = 0, *, wide: bool = False) -> ZImage:
    """8 latent channels, 16 x 16 latents for 64 x 64 pixels, 6 blocks, reads pictures.

    wide  as wide as Shapes, for tests whose numbers were measured with that
    """
    torch.manual_seed(seed)
    vae = new_vae()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    pipeline, pictures = new_model(vae, seed)
    if not wide:
        pipeline.register_modules(transformer=narrow_transformer())
    # a new final layer may be tiny; scale it so that velocities are of the order of the data
    with torch.no_grad():
        for p in pipeline.transformer.all_final_layer.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return ZImage(pipeline, pictures)


def tiny_pictures(family: ZImage) -> PictureReader:
    assert family.pictures is not None
    return family.pictures
