"""Adapters with random weights: as diffusers writes them, and in our own keys."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lokr.layer import factorization
from torch import Tensor

from fewstep.families.adapter_files import AdapterCard
from fewstep.families.adapter_state import Layers, State, by_layer, delta, linear_layers
from fewstep.families.zimage import ZImage, ZImageBackbone


def write_lora(family: ZImage, folder: Path) -> Path:
    """Attach it to the family's transformer and write its file."""
    transformer = family.pipeline.transformer
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.05, generator=generator)
    layers: Any = get_peft_model_state_dict(transformer)
    ZImagePipeline.save_lora_weights(folder, transformer_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"


def lokr_state(
    layers: Layers, factor: int = 8, rank: int | None = None, seed: int = 2, size: float = 0.05
) -> dict[str, Tensor]:
    """A LoKr over `layers` whose dW has about the standard deviation `size`, exact in bfloat16.

    rank  of w2, None for whole factors
    """
    draws = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, scale: float) -> Tensor:
        return (scale * torch.randn(rows, columns, generator=draws)).bfloat16().float()

    state: dict[str, Tensor] = {}
    for layer, (rows, columns) in layers.items():
        (a, b), (c, d) = factorization(rows, factor), factorization(columns, factor)
        state[f"{layer}.lokr_w1"] = normal(a, c, 1.0)
        if rank is None:
            state[f"{layer}.lokr_w2"] = normal(b, d, size)
        else:
            state[f"{layer}.lokr_w2_a"] = normal(b, rank, size)
            state[f"{layer}.lokr_w2_b"] = normal(rank, d, rank**-0.5)
    return state


def lora_state(
    layers: Layers, rank: int = 4, seed: int = 3, size: float = 0.05
) -> dict[str, Tensor]:
    """A LoRA over `layers` whose dW has about the standard deviation `size`, exact in bfloat16."""
    draws = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for layer, (rows, columns) in layers.items():
        up, down = (
            torch.randn(rows, rank, generator=draws),
            torch.randn(rank, columns, generator=draws),
        )
        state[f"{layer}.lora_A"] = (down * rank**-0.5).bfloat16().float()
        state[f"{layer}.lora_B"] = (up * size).bfloat16().float()
    return state


def in_blocks(family: ZImage, *ends: str) -> Layers:
    """The Linear layers of the main blocks, those with one of these last names."""
    found = linear_layers(family.pipeline.transformer)
    wanted = ends or ("to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3", "adaLN_modulation.0")
    return {k: v for k, v in found.items() if k.startswith("layers.") and k.endswith(wanted)}


def deltas(state: State) -> dict[str, Tensor]:
    """dW of each layer."""
    return {layer: delta(factors) for layer, factors in by_layer(state).items()}


def merged(family: ZImage, state: State, strength: float = 1.0) -> ZImageBackbone:
    """A copy of the model whose weights are W + strength dW: what an adapter has to amount to."""
    transformer = copy.deepcopy(family.pipeline.transformer)
    with torch.no_grad():
        for layer, dw in deltas(state).items():
            transformer.get_submodule(layer).weight += strength * dw
    return ZImageBackbone(transformer)


CARD = AdapterCard(
    method="sda", base_model="tiny", base_hash="b1", teacher_hash="t1", recipe="sda_shapes",
    step=300, licence="apache-2.0", trigger_words=("sks", "a blue hour"),
)  # fmt: skip
