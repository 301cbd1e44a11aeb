"""Adapters as other trainers write them, read into our keys.

    diffusion_model.layers.0.attention.to_q.lokr_w1         ours, ai-toolkit (with .alpha)
    transformer.layers.0.attention.to_q.lora_A.weight       diffusers; with .alpha: OneTrainer
    base_model.model.layers.0.attention.to_q.lora_A.weight  peft, beside its adapter_config.json
    lora_unet_layers_0_attention_to_q.lora_down.weight      musubi, kohya
    lycoris_layers_0_attention_to_q.lokr_w1                 LyCORIS, SimpleTuner
    layers.0.attention.to_q.lokr_w1                         bare
    layers.0.attention.to_q.lora_A.default.weight           DiffSynth, bare

What alpha means is the format's. LyCORIS and kohya scale by alpha / rank, where LoKr's rank is that
of a decomposed factor: with two whole factors alpha is a sentinel (1e10, inf) and is ignored. peft
scales by alpha / r of its config, whole factors too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fewstep.errors import UserError
from fewstep.families.adapter_files import open_file, scaled
from fewstep.families.adapter_peft import config_of, scale_of
from fewstep.families.adapter_state import (
    Factors,
    Kind,
    Layers,
    acts,
    by_layer,
    check_ranks,
    common_factor,
    kind_of,
    shape_of,
)

PEFT = "base_model.model."
FORMATS = {
    "diffusion_model.": "ai-toolkit",
    "transformer.": "diffusers",
    PEFT: "peft",
    "lora_unet_": "musubi",
    "lycoris_": "lycoris",
    "": "bare",
}
"""By the prefix of every key, in the order in which they are tried."""
ENDINGS = {
    **{f".{name}": name for name in (
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "alpha"
    )},
    **{f".{name}.weight": "lora_A" for name in (
        "lora_A", "lora_A.default", "lora_down", "lora.down"
    )},
    **{f".{name}.weight": "lora_B" for name in ("lora_B", "lora_B.default", "lora_up", "lora.up")},
}  # fmt: skip
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
        if not acts(state):
            raise Misfit("it changes 0 modules, for its factors are 0")
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
            if tensor.ndim != 2 or not tensor.numel():
                raise Misfit(f"the key {key} must be a matrix, got the shape {tuple(tensor.shape)}")
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
    config = config_of(path, header, beside=prefix == PEFT)
    scales: dict[str, float] = {}
    for layer, factors in raw.items():
        if config is not None and "alpha" in factors:
            raise Misfit(f"{layer} has an .alpha beside the config of peft, which has one too")
        if config is None:
            scales[layer] = _alpha_scale(layer, factors)
        else:
            scales[layer] = scale_of(config, layer)
    return scales


def _alpha_scale(layer: str, factors: Factors) -> float:
    ranks = [factors[n].shape[0] for n in ("lora_A", "lokr_w2_b", "lokr_w1_b") if n in factors]
    if "alpha" not in factors or not ranks:
        return 1.0
    if factors["alpha"].numel() != 1 or factors["alpha"].is_complex():
        raise Misfit(f"the key {layer}.alpha must be one number")
    alpha = factors["alpha"].item()
    if not math.isfinite(alpha):
        raise Misfit(f"the key {layer}.alpha is {alpha}, which is not finite")
    return alpha / ranks[0]


def _canonical(raw: Mapping[str, Factors], scales: Mapping[str, float]) -> dict[str, Tensor]:
    """Our keys: a decomposed w1 multiplied out, a fused LoRA split, all scales taken in."""
    found: dict[str, Tensor] = {}
    for layer, factors in raw.items():
        f = {name: tensor.float() for name, tensor in factors.items() if name != "alpha"}
        try:
            check_ranks(f)
        except ValueError as error:
            raise Misfit(f"{layer}: {error}") from error
        if "lokr_w1_a" in f and "lokr_w1_b" in f and "lokr_w1" not in f:
            f["lokr_w1"] = f.pop("lokr_w1_a") @ f.pop("lokr_w1_b")
        f = {n.rpartition(".")[2]: t for n, t in scaled(
            {f"{layer}.{n}": t for n, t in f.items()}, scales.__getitem__
        ).items()}  # fmt: skip
        if not all(tensor.isfinite().all() for tensor in f.values()):
            raise Misfit(f"{layer} times its scale, {scales[layer]:g}, is not finite in float32")
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
