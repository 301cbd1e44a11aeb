"""The model directory in the package: small, safe, and the same to diffusers as to us.

Nothing here depends on what its weights are, only on what they are read as.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import ZImagePipeline

from fewstep.experiment.models import model_path
from fewstep.families.zimage import ZImage
from fewstep.flow.guidance import guided
from fewstep.flow.sample import euler

MODEL = Path(model_path("shapes"))
PROMPTS = ["a red circle and a blue square on a white background", "two green stars"]


@pytest.fixture(scope="module")
def family() -> ZImage:
    return ZImage.load(MODEL)


@pytest.fixture(scope="module")
def pipeline() -> ZImagePipeline:
    return ZImagePipeline.from_pretrained(MODEL)


def test_it_is_small_and_holds_no_code() -> None:
    files = [file for file in MODEL.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 16 * 2**20
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja", ".md"}
    assert len([file for file in files if file.suffix == ".safetensors"]) == 4


@pytest.mark.parametrize(("steps", "w"), [(4, 1.0), (2, 2.0)])
def test_diffusers_draws_what_we_draw(
    family: ZImage, pipeline: ZImagePipeline, steps: int, w: float
) -> None:
    x = torch.randn(2, *family.latent_shape(64, 64), generator=torch.Generator().manual_seed(0))
    theirs = pipeline(
        list(PROMPTS), height=64, width=64, num_inference_steps=steps,
        guidance_scale=family.pipeline_guidance(w), latents=x.clone(), output_type="pt",
    ).images  # fmt: skip
    empty = None if w == 1 else family.encode_text([""] * 2)
    with torch.no_grad():
        model = guided(family.backbone, family.encode_text(PROMPTS), empty, w)
        ours = family.decode(euler(model, x, family.sigmas(steps)))
    assert ours.shape == (2, 3, 64, 64) and (ours[0] - ours[1]).abs().max() > 0.01
    # a twentieth of a grey level: rounding of 1 - sigma, carried through the steps and the decoder
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


def test_a_picture_in_context_changes_the_condition(family: ZImage) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen, other = family.encode_text(PROMPTS, images), family.encode_text(PROMPTS, images.flip(0))
    for text, a, b in zip(
        family.encode_text(PROMPTS).tokens, seen.tokens, other.tokens, strict=True
    ):
        assert len(a) > len(text), "a picture has tokens of its own"
        assert (a - b).norm() > 1e-3 * a.norm()
