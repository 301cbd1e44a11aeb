"""An adapter of the published 6B Z-Image, without its weights: names, shapes and counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from peft import get_peft_model_state_dict
from peft.tuners.lokr.layer import factorization as peft_factorization
from peft.tuners.tuners_utils import BaseTunerLayer
from tests.lora import lokr_state
from torch import Tensor

from fewstep.families import comfy
from fewstep.families.adapter_files import file_tensors
from fewstep.families.adapter_state import Layers, common_factor, linear_layers
from fewstep.families.zimage import ZImageBackbone
from fewstep.nets.adapters import AdapterConfig, adapt, adapter_state
from fewstep.nets.lokr import factorization

PUBLISHED = {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30,
             "cap_feat_dim": 2560, "in_channels": 16}  # fmt: skip
ENDS = (
    "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0",
    "feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "adaLN_modulation.0",
)  # fmt: skip


def published() -> ZImageTransformer2DModel:
    with torch.device("meta"):
        return ZImageTransformer2DModel(**PUBLISHED)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> ZImageTransformer2DModel:
    return published()


@pytest.fixture(scope="module")
def layers(model: ZImageTransformer2DModel) -> Layers:
    every = linear_layers(model)
    return {name: every[name] for i in range(30) for name in (f"layers.{i}.{e}" for e in ENDS)}


@pytest.fixture(scope="module")
def tensors(layers: Layers) -> dict[str, Tensor]:
    """What a file of a factor-8 adapter holds: zeros by the shapes of the splits."""
    state: dict[str, Tensor] = {}
    for name, (rows, columns) in layers.items():
        assert rows % 8 == columns % 8 == 0
        state[f"{name}.lokr_w1"] = torch.zeros(8, 8)
        state[f"{name}.lokr_w2"] = torch.zeros(()).expand(rows // 8, columns // 8)
    return file_tensors(state)


def test_the_file_of_a_factor_8_adapter(
    model: ZImageTransformer2DModel, tensors: dict[str, Tensor]
) -> None:
    assert sum(p.numel() for p in model.parameters()) == 6_154_908_736
    assert len(tensors) == 2 * 240 and sum(t.numel() for t in tensors.values()) == 84_802_560
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    block = "diffusion_model.layers.29"
    assert shapes[f"{block}.attention.to_q.lokr_w2"] == (480, 480)
    assert shapes[f"{block}.feed_forward.w1.lokr_w2"] == (1280, 480)
    assert shapes[f"{block}.feed_forward.w2.lokr_w2"] == (480, 1280)
    assert shapes[f"{block}.adaLN_modulation.0.lokr_w2"] == (1920, 32)
    assert {shape for key, shape in shapes.items() if key.endswith("w1")} == {(8, 8)}


def test_comfyui_has_a_place_for_each_of_them(
    model: ZImageTransformer2DModel, tensors: dict[str, Tensor], layers: Layers
) -> None:
    every = linear_layers(model)
    assert comfy.places(model.config).keys() == every.keys()
    names = comfy.key_map(model.config)
    assert not comfy.not_loaded(tensors, names)
    reached = comfy.reached(tensors, names)
    assert sorted(reached) == sorted(f"diffusion_model.{name}" for name in layers)
    meta = {key: tensor.to("meta") for key, tensor in tensors.items()}
    touched = 0
    for weight, members in comfy.members(model.config).items():
        rows = sum(every[name][0] for name in members)
        value = torch.empty(rows, every[members[0]][1], device="meta")
        if layers.keys() & set(members):
            # a difference of another shape than its rows would raise
            assert comfy.patched(weight, value, meta, names).shape == value.shape
            touched += 1
        for name in members:
            place = comfy.places(model.config)[name]
            assert (place.rows or (0, rows))[1] == every[name][0]
    assert touched == 30 * 6  # q, k and v are one weight there


def test_diffusers_takes_them_with_one_factor(tensors: dict[str, Tensor], layers: Layers) -> None:
    """Its conversion, its inference of the config, and its loader on the model without weights."""
    transformer = published()
    converted: Any = ZImagePipeline.lora_state_dict(dict(tensors))
    assert converted.keys() == {k.replace("diffusion_model", "transformer") for k in tensors}
    ZImagePipeline.load_lora_into_transformer(
        converted, transformer, adapter_name="x", low_cpu_mem_usage=True
    )
    config: Any = transformer.peft_config["x"]
    assert config.decompose_factor == 8 and not config.decompose_both
    assert config.target_modules == set(layers)
    count = sum(isinstance(m, BaseTunerLayer) for m in transformer.modules())
    assert count == len(layers) == 240
    # the parameters that peft made from that config, under the names of the file
    made = get_peft_model_state_dict(transformer, adapter_name="x")
    shapes = {f"diffusion_model.{key}": tensor.shape for key, tensor in made.items()}
    assert shapes == {key: tensor.shape for key, tensor in tensors.items()}


def test_our_adapter_of_the_published_model_has_these_names(tensors: dict[str, Tensor]) -> None:
    backbone: Any = ZImageBackbone(published())
    assert len(adapt(backbone, AdapterConfig(), seed=0)) == 240
    shapes = {f"diffusion_model.{k}": v.shape for k, v in adapter_state(backbone).items()}
    assert shapes == {key: tensor.shape for key, tensor in tensors.items()}


def test_what_reads_the_prompt_is_taken_too(model: ZImageTransformer2DModel) -> None:
    backbone: Any = ZImageBackbone(published())
    found = set(adapt(backbone, AdapterConfig(targets=("text",)), seed=0))
    every = linear_layers(model)
    assert found == {"cap_embedder.1"} | {n for n in every if n.startswith("context_refiner.")}
    assert len(found) == 1 + 2 * 7
    tensors = file_tensors({k: torch.zeros(v.shape) for k, v in adapter_state(backbone).items()})
    assert tensors["diffusion_model.cap_embedder.1.lokr_w2"].shape == (480, 320)
    names = comfy.key_map(model.config)
    assert not comfy.not_loaded(tensors, names)
    reached = comfy.reached(tensors, names)
    assert sorted(reached) == sorted(f"diffusion_model.{name}" for name in found)
    transformer = published()
    converted: Any = ZImagePipeline.lora_state_dict(dict(tensors))
    ZImagePipeline.load_lora_into_transformer(
        converted, transformer, adapter_name="x", low_cpu_mem_usage=True
    )
    assert transformer.peft_config["x"].target_modules == found


@pytest.mark.parametrize("factor", [2, 4, 6, 7, 8, 10, 16, -1])
def test_one_factor_is_found_and_means_the_same_everywhere(
    factor: int, model: ZImageTransformer2DModel
) -> None:
    """Our split of every layer is peft's, and diffusers infers a factor that gives it back."""
    every = linear_layers(model)
    for side in {n for shape in every.values() for n in shape}:
        assert factorization(side, factor) == peft_factorization(side, factor)
    block = {k: v for k, v in every.items() if k.startswith("layers.0.")}
    state = {k: v.to("meta") for k, v in lokr_state(block, factor).items()}
    found = common_factor(state)
    for key, tensor in state.items():
        if key.endswith("lokr_w1"):
            rows, columns = block[key.removesuffix(".lokr_w1")]
            assert tensor.shape == (
                peft_factorization(rows, found)[0], peft_factorization(columns, found)[0]
            )  # fmt: skip
