"""Adapters as other trainers write them, read into our keys.

    diffusion_model.layers.0.attention.to_q.lokr_w1         ours, ai-toolkit (with .alpha)
    transformer.layers.0.attention.to_q.lora_A.weight       diffusers; with .alpha: OneTrainer
    base_model.model.layers.0.attention.to_q.lora_A.weight  peft, beside its adapter_config.json
    lora_unet_layers_0_attention_to_q.lora_down.weight      musubi, kohya
    lycoris_layers_0_attention_to_q.lokr_w1                 LyCORIS, SimpleTuner
    layers.0.attention.to_q.lokr_w1                         bare

What alpha means is the format's. LyCORIS and kohya scale by alpha / rank, where LoKr's rank is that
of a decomposed factor: with two whole factors alpha is a sentinel (1e10, inf) and is ignored. peft
scales by alpha / r of its config, whole factors too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft.utils.other import get_pattern_key
from torch import Tensor

from fewstep.errors import UserError
from fewstep.families.adapter_files import open_file, scaled
from fewstep.families.adapter_state import (
    Factors,
    Kind,
    Layers,
    by_layer,
    common_factor,
    kind_of,
    shape_of,
)

FORMATS = {
    "diffusion_model.": "ai-toolkit",
    "transformer.": "diffusers",
    "base_model.model.": "peft",
    "lora_unet_": "musubi",
    "lycoris_": "lycoris",
    "": "bare",
}
"""By the prefix of every key, in the order in which they are tried."""
ENDINGS = {
    **{f".{name}": name for name in (
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "alpha"
    )},
    **{f".{name}": "lora_A" for name in ("lora_A.weight", "lora_down.weight", "lora.down.weight")},
    **{f".{name}": "lora_B" for name in ("lora_B.weight", "lora_up.weight", "lora.up.weight")},
}  # fmt: skip
PEFT_HEADER = "lora_adapter_metadata"
FUSED = ".attention.qkv"
"""One Linear of the original code, whose rows are to_q, to_k and to_v; `.attention.out` is its
name for to_out.0."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a file is."""

    format: str
    kind: Kind
    modules: int
    factor: int | None
    """LoKr's decompose_factor (-1: near the square root); None for LoRA."""
    header: Mapping[str, str]


class Misfit(ValueError):
    """What is wrong with a file, without its name."""


def read(path: Path, layers: Layers) -> tuple[dict[str, Tensor], Facts]:
    """The adapter in our keys, float32, with all scales in its factors, and what it was.

    layers  of the model that it is for, `linear_layers(transformer)`

    UserError, naming the key, for everything that would not take effect as a whole.
    """
    tensors, header = open_file(path)
    try:
        raw, prefix = _named(tensors, layers)
        scales = _scales(raw, path, prefix, header)
        state = _canonical(raw, scales)
        kind = kind_of(state)
        for layer, factors in by_layer(state).items():
            if layer not in layers or shape_of(factors) != layers[layer]:
                raise Misfit(
                    f"{layer} is {shape_of(factors)} in it and {layers[layer]} in the model"
                )
        factor = common_factor(state) if kind == "lokr" else None
    except ValueError as error:
        raise UserError(f"the adapter {path} does not fit this model: {error}") from error
    name = FORMATS[prefix]
    if "fewstep_version" in header:
        name = "fewstep"
    elif name == "diffusers" and any(key.endswith(".alpha") for key in tensors):
        name = "onetrainer"
    facts = Facts(
        format=name, kind=kind, modules=len(by_layer(state)), factor=factor, header=header
    )
    return state, facts


def _named(tensors: Mapping[str, Tensor], layers: Layers) -> tuple[dict[str, Factors], str]:
    """Layer -> factors under canonical names (alpha included), and the prefix of all keys."""
    if not tensors:
        raise Misfit("it is empty, so 0 modules would be adapted")
    prefix = next(prefix for prefix in FORMATS if next(iter(tensors)).startswith(prefix))
    known = _names(layers, "_" if prefix.endswith("_") else ".")
    found: dict[str, Factors] = {}
    lost: list[str] = []
    for key, tensor in tensors.items():
        ending = next((e for e in ENDINGS if key.endswith(e)), None)
        if ending is None or not key.startswith(prefix):
            raise Misfit(f"the key {key} is of no format that can be read{_why(key)}")
        name = key.removeprefix(prefix).removesuffix(ending)
        if name not in known:
            lost.append(f"{name}{ending}")
            continue
        factors = found.setdefault(known[name], {})
        if ENDINGS[ending] in factors:
            raise Misfit(f"the key {key} gives a factor of {known[name]} twice")
        if ending != ".alpha":
            if not tensor.is_floating_point():
                raise Misfit(f"the key {key} is {tensor.dtype}, which is no floating-point type")
            if not tensor.float().isfinite().all():
                raise Misfit(f"the key {key} has numbers that are not finite")
        factors[ENDINGS[ending]] = tensor
    if lost:
        raise Misfit(
            f"it has no place for {len(lost)} of its {len(tensors)} tensors, the first is {lost[0]}"
        )
    return found, prefix


def _names(layers: Layers, separator: str) -> dict[str, str]:
    """What a file may call each layer, in diffusers' and in the original code's names."""
    names = {name: name for name in layers}
    for name in layers:
        block, _, last = name.rpartition(".attention.")
        if last == "to_out.0":
            names[f"{block}.attention.out"] = name
        elif last == "to_q":
            names[block + FUSED] = block + FUSED
    return {name.replace(".", separator): layer for name, layer in names.items()}


def _why(key: str) -> str:
    for part, why in (
        ("dora_scale", "DoRA"), ("lokr_t2", "a Tucker decomposition, which Linear layers lack"),
        (".diff", "whole differences of weights"), ("hada_", "LoHa"),
    ):  # fmt: skip
        if part in key:
            return f": {why}"
    return ""


def _scales(
    raw: Mapping[str, Factors], path: Path, prefix: str, header: Mapping[str, str]
) -> dict[str, float]:
    """What dW of each layer is multiplied by."""
    config = _peft_config(path, prefix, header)
    scales: dict[str, float] = {}
    for layer, factors in raw.items():
        if config is not None and "alpha" in factors:
            raise Misfit(f"{layer} has an .alpha beside the config of peft, which has one too")
        own = _alpha_scale(layer, factors) if config is None else _peft_scale(config, layer)
        scales[layer] = own
        if not math.isfinite(scales[layer]):
            raise Misfit(f"the key {layer}.alpha is {factors['alpha'].item()}, which is not finite")
    return scales


def _alpha_scale(layer: str, factors: Factors) -> float:
    ranks = [factors[n].shape[0] for n in ("lora_A", "lokr_w2_b", "lokr_w1_b") if n in factors]
    if "alpha" not in factors or not ranks:
        return 1.0
    if factors["alpha"].numel() != 1:
        raise Misfit(f"the key {layer}.alpha must be one number")
    return factors["alpha"].item() / ranks[0]


def _peft_config(path: Path, prefix: str, header: Mapping[str, str]) -> dict[str, Any] | None:
    """peft's config, which diffusers puts into the header and peft into a file beside."""
    beside = path.with_name("adapter_config.json")
    try:
        if prefix == "base_model.model.":
            if not beside.is_file():
                raise Misfit(f"it is peft's own, whose scale is in {beside.name}; put that beside")
            return json.loads(beside.read_text(encoding="utf-8"))
        if PEFT_HEADER not in header:
            return None
        return {
            k.removeprefix("transformer."): v for k, v in json.loads(header[PEFT_HEADER]).items()
        }
    except (OSError, json.JSONDecodeError, AttributeError) as error:
        raise Misfit(f"the config of peft cannot be read: {error}") from error


def _peft_scale(config: Mapping[str, Any], layer: str) -> float:
    if config.get("use_dora"):
        raise Misfit("it is a DoRA (use_dora in the config of peft), which is no sum of weights")

    def value(name: str, patterns: str) -> float:
        own = config.get(patterns) or {}
        found = own.get(get_pattern_key(list(own), layer), config.get(name))
        if not isinstance(found, int | float):
            raise Misfit(f"the config of peft has no number {name}")
        return found

    alpha = value("lora_alpha" if "lora_alpha" in config else "alpha", "alpha_pattern")
    rank = value("r", "rank_pattern")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _canonical(raw: Mapping[str, Factors], scales: Mapping[str, float]) -> dict[str, Tensor]:
    """Our keys: a decomposed w1 multiplied out, a fused LoRA split, all scales taken in."""
    found: dict[str, Tensor] = {}
    for layer, factors in raw.items():
        f = {name: tensor.float() for name, tensor in factors.items() if name != "alpha"}
        if "lokr_w1_a" in f and "lokr_w1_b" in f and "lokr_w1" not in f:
            f["lokr_w1"] = f.pop("lokr_w1_a") @ f.pop("lokr_w1_b")
        f = {n.rpartition(".")[2]: t for n, t in scaled(
            {f"{layer}.{n}": t for n, t in f.items()}, scales.__getitem__
        ).items()}  # fmt: skip
        if not layer.endswith(FUSED):
            found |= {f"{layer}.{name}": tensor for name, tensor in f.items()}
            continue
        if f.keys() != {"lora_A", "lora_B"} or f["lora_B"].shape[0] % 3:
            raise Misfit(f"{layer} is fused, and only a LoRA can be split into to_q, to_k and to_v")
        for part, rows in zip("qkv", f["lora_B"].chunk(3), strict=True):
            split = layer.removesuffix("qkv") + f"to_{part}"
            if any(other.startswith(f"{split}.") for other in found) or split in raw:
                raise Misfit(f"it has both {layer} and {split}")
            found |= {f"{split}.lora_A": f["lora_A"], f"{split}.lora_B": rows}
    return found
