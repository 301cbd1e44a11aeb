"""A written adapter in a user's hands: loaded in three lines, scaled, stacked, fused, unloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from peft.tuners.tuners_utils import BaseTunerLayer
from tests.lora import CARD, deltas, in_blocks, lokr_state, lora_state, merged
from tests.tiny import tiny_zimage
from torch import Tensor, nn

from fewstep.families.adapter_check import save
from fewstep.families.zimage import ZImage
from fewstep.flow import sample

PROMPTS = ["a red circle and a blue square on a white background", "two green stars"]


def pictures(pipeline: Any) -> Tensor:
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    return pipeline(
        list(PROMPTS), height=64, width=64, num_inference_steps=2, guidance_scale=0.0,
        latents=x, output_type="pt",
    ).images  # fmt: skip


@torch.no_grad()
def by_ours(family: ZImage, backbone: nn.Module) -> Tensor:
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    cond = family.encode_text(PROMPTS)
    return family.decode(sample.euler(lambda x, s: backbone(x, s, cond), x, family.sigmas(2)))


def test_users_load_scale_fuse_unload_and_stack_it(tmp_path: Path) -> None:
    """In a pipeline read from its directory, as a user does."""
    family = tiny_zimage()
    state, second = lokr_state(in_blocks(family), size=0.02), lora_state(in_blocks(family, "w1"))
    save(tmp_path / "sda.safetensors", state, CARD, family, merged(family, state))
    save(tmp_path / "style.safetensors", second, CARD, family, merged(family, second))
    family.save(tmp_path / "model", family.backbone)
    both = merged(family, state)
    with torch.no_grad():
        for layer, dw in deltas(second).items():
            both.transformer.get_parameter(f"{layer}.weight").add_(0.7 * dw)
    plain = by_ours(family, family.backbone)
    ours = by_ours(family, merged(family, state))
    assert (ours - plain).abs().mean() > 0.01

    pipe: Any = ZImagePipeline.from_pretrained(tmp_path / "model")
    before = pictures(pipe)
    torch.testing.assert_close(before, plain, atol=1e-4, rtol=1e-4)
    pipe.load_lora_weights(tmp_path, weight_name="sda.safetensors", adapter_name="sda")
    whole = pictures(pipe)
    torch.testing.assert_close(whole, ours, atol=1e-4, rtol=1e-4)

    pipe.set_adapters(["sda"], [0.5])
    half = by_ours(family, merged(family, state, strength=0.5))
    torch.testing.assert_close(pictures(pipe), half, atol=1e-4, rtol=1e-4)
    assert (half - ours).abs().mean() > 0.005

    pipe.load_lora_weights(tmp_path, weight_name="style.safetensors", adapter_name="style")
    pipe.set_adapters(["sda", "style"], [1.0, 0.7])
    torch.testing.assert_close(pictures(pipe), by_ours(family, both), atol=1e-4, rtol=1e-4)
    pipe.delete_adapters("style")
    pipe.set_adapters(["sda"], [1.0])
    assert torch.equal(pictures(pipe), whole)

    pipe.unload_lora_weights()
    assert torch.equal(pictures(pipe), before), "unloading gives the base back bit for bit"

    pipe.load_lora_weights(tmp_path, weight_name="sda.safetensors", adapter_name="sda")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert not any(isinstance(m, BaseTunerLayer) for m in pipe.transformer.modules())
    torch.testing.assert_close(pictures(pipe), ours, atol=1e-4, rtol=1e-4)
