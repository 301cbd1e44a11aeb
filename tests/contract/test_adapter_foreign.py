"""Adapters of other trainers: what diffusers and peft themselves make of a file is what we read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImagePipeline
from peft import LoKrConfig, LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from tests.lora import deltas, in_blocks, lokr_state, lora_state
from tests.tiny import tiny_zimage
from torch import Tensor, nn

from fewstep.families.adapter_check import fresh
from fewstep.families.adapter_formats import read
from fewstep.families.adapter_state import by_layer, linear_layers
from fewstep.families.zimage import ZImage
from fewstep.nets.share import share

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def diffusers_deltas(family: ZImage, path: Path) -> dict[str, Tensor]:
    pipeline = fresh(family)
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="x")
    return tuner_deltas(pipeline.transformer, "x")


def tuner_deltas(model: nn.Module, adapter: str = "default") -> dict[str, Tensor]:
    """dW of each layer as peft has it, by the layer's name in the transformer."""
    found: dict[str, Any] = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    return {name: layer.get_delta_weight(adapter).detach() for name, layer in found.items()}


def as_kohya(state: State, alpha: float) -> State:
    found: State = {}
    for layer, factors in by_layer(state).items():
        name = f"lora_unet_{layer.replace('.', '_')}"
        found |= {
            f"{name}.lora_down.weight": factors["lora_A"],
            f"{name}.lora_up.weight": factors["lora_B"],
            f"{name}.alpha": torch.tensor(alpha),
        }
    return found


def as_diffsynth(state: State) -> State:
    return {f"{key}.default.weight": tensor for key, tensor in state.items()}


def as_ai_toolkit(state: State, alpha: float) -> State:
    found = {f"diffusion_model.{k}": v for k, v in state.items()}
    return found | {f"diffusion_model.{n}.alpha": torch.tensor(alpha) for n in by_layer(state)}


@pytest.mark.parametrize(
    "make",
    [
        lambda f: as_kohya(lora_state(in_blocks(f, "to_q", "w1", "adaLN_modulation.0")), 2.0),
        lambda f: as_diffsynth(lora_state(in_blocks(f))),
        lambda f: as_ai_toolkit(lokr_state(in_blocks(f)), 1e10),
        lambda f: as_ai_toolkit(lokr_state(in_blocks(f), rank=3), 1.5),
    ],
)
def test_we_read_foreign_files_as_diffusers_reads_them(
    make: Callable[[ZImage], State], family: ZImage, tmp_path: Path
) -> None:
    """Where diffusers reads them at all: its own conversion against ours."""
    path = tmp_path / "a.safetensors"
    save_file({k: v.contiguous() for k, v in make(family).items()}, path)
    theirs = diffusers_deltas(family, path)
    ours = deltas(read(path, linear_layers(family.pipeline.transformer))[0])
    assert ours.keys() == theirs.keys() and len(ours) >= 18
    for layer, dw in ours.items():
        torch.testing.assert_close(dw, theirs[layer], rtol=1e-5, atol=1e-7)


PEFT_CONFIGS: dict[str, Any] = {
    "alpha": LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_v"]),
    "patterns": LoraConfig(
        r=4, lora_alpha=8, target_modules=["to_q", "w1"], use_rslora=True,
        rank_pattern={"layers.1.attention.to_q": 2}, alpha_pattern={"w1": 3},
    ),
    "lokr": LoKrConfig(r=4, alpha=1, target_modules=["to_q", "to_v"]),
    "whole": LoKrConfig(r=64, alpha=16, decompose_factor=8, target_modules=["to_q", "w1"]),
    "both": LoKrConfig(r=2, alpha=3, decompose_both=True, target_modules=["to_q"]),
}  # fmt: skip


def randomise(model: nn.Module) -> None:
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name or "lokr_" in name:
                weight.normal_(0, 0.3, generator=draws)


def assert_read(path: Path, family: ZImage, wanted: dict[str, Tensor], format: str) -> None:
    state, facts = read(path, linear_layers(family.pipeline.transformer))
    ours = deltas(state)
    assert facts.format == format and ours.keys() == wanted.keys()
    for layer, dw in ours.items():
        torch.testing.assert_close(dw, wanted[layer], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PEFT_CONFIGS)
def test_what_peft_saves_is_read_with_its_scale(name: str, family: ZImage, tmp_path: Path) -> None:
    """By `PeftModel.save_pretrained`, whose scale is in a file beside."""
    model: Any = get_peft_model(share(family.pipeline.transformer), PEFT_CONFIGS[name])
    randomise(model)
    model.save_pretrained(tmp_path)
    assert_read(tmp_path / "adapter_model.safetensors", family, tuner_deltas(model), "peft")


@pytest.mark.parametrize("name", PEFT_CONFIGS)
def test_what_diffusers_saves_is_read_with_its_scale(
    name: str, family: ZImage, tmp_path: Path
) -> None:
    """By a pipeline, under `transformer.`, and by a model, bare: the config is in the header."""
    transformer: Any = share(family.pipeline.transformer)
    transformer.add_adapter(PEFT_CONFIGS[name])
    randomise(transformer)
    wanted = tuner_deltas(transformer)
    transformer.save_lora_adapter(tmp_path / "bare", weight_name="a.safetensors")
    assert_read(tmp_path / "bare" / "a.safetensors", family, wanted, "bare")
    tensors: Any = get_peft_model_state_dict(transformer)
    ZImagePipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=tensors,
        transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
    )  # fmt: skip
    assert_read(tmp_path / "pytorch_lora_weights.safetensors", family, wanted, "diffusers")
