"""A model saved with a sampler is sampled so by the real pipeline too."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fewstep.families.zimage import ZImage
from fewstep.flow import sample
from fewstep.rng import Rng
from tiny import tiny_zimage

PROMPTS = ("a red circle", "two blue stars on a white background")


class GlobalNoise(Rng):
    """Draws from torch's global stream, as the pipeline's scheduler does: it is given no generator
    by `ZImagePipeline`."""

    def randn_like(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape)


def test_a_model_saved_for_renoising_is_renoised_by_the_pipeline(tmp_path: Path) -> None:
    family = tiny_zimage()
    assert family.sampler == "euler"
    family.save(tmp_path / "euler", family.backbone)
    family.save(tmp_path / "renoise", family.backbone, "renoise")
    assert family.sampler == "euler", "saving leaves the family as it is"
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    images = {}
    for name in ("euler", "renoise"):
        read = ZImage.load(tmp_path / name)
        assert read.sampler == name
        cond = read.encode_text(PROMPTS)
        torch.manual_seed(5)
        theirs = read.pipeline(
            list(PROMPTS), height=64, width=64, num_inference_steps=4, guidance_scale=0.0,
            latents=x.clone(), output_type="latent",
        ).images  # fmt: skip
        torch.manual_seed(5)
        with torch.no_grad():
            ours = sample.draw(
                read.sampler, lambda x, s, c=cond, b=read.backbone: b(x, s, c), x, read.sigmas(4),
                GlobalNoise(0, 0, "unused", range(len(x))),
            )  # fmt: skip
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        images[name] = ours
    assert (images["euler"] - images["renoise"]).abs().max() > 0.1
    read.save(tmp_path / "again", read.backbone)
    assert ZImage.load(tmp_path / "again").sampler == "renoise", "none keeps the model's own"
