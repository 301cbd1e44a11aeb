"""A LoRA with random weights on a real model, as diffusers writes it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ZImagePipeline
from peft import LoraConfig, get_peft_model_state_dict

from fewstep.families.zimage import ZImage


def write_lora(family: ZImage, folder: Path) -> Path:
    """Attach it to the family's transformer and write its file."""
    transformer = family.pipeline.transformer
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.05, generator=generator)
    ZImagePipeline.save_lora_weights(
        folder, transformer_lora_layers=get_peft_model_state_dict(transformer)
    )
    return folder / "pytorch_lora_weights.safetensors"
