"""How ComfyUI applies an adapter file to Z-Image, made anew from its behaviour, to check files by.

ComfyUI holds the model under the names of the original code: one `attention.qkv` whose rows are
to_q, to_k and to_v, `attention.out`, `x_embedder`, `final_layer`. A file's keys find their rows by
a table (`Place`), its factors are multiplied out in float32, and the rows are changed in place.

Nothing here is used to make or to read our own files, so that a mistake there is seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PLAIN = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
EDGES = {
    "all_final_layer.2-1.linear": "final_layer.linear",
    "all_final_layer.2-1.adaLN_modulation.1": "final_layer.adaLN_modulation.1",
    "all_x_embedder.2-1": "x_embedder",
    "cap_embedder.1": "cap_embedder.1",
    "t_embedder.mlp.0": "t_embedder.mlp.0",
    "t_embedder.mlp.2": "t_embedder.mlp.2",
}
"""The layers outside the blocks: diffusers' name and ComfyUI's."""

FACTORS = (
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lora_A.weight",
    "lora_B.weight", "lora_down.weight", "lora_up.weight",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Rows of one of ComfyUI's weights; None is all of them."""

    weight: str
    rows: tuple[int, int] | None = None
    """First row and number of rows."""


def places(config: Mapping[str, Any]) -> dict[str, Place]:
    """Where each Linear layer of a `ZImageTransformer2DModel` of this config lies in ComfyUI."""
    width = config["dim"]
    blocks = [
        *((f"layers.{i}", True) for i in range(config["n_layers"])),
        *((f"noise_refiner.{i}", True) for i in range(config["n_refiner_layers"])),
        *((f"context_refiner.{i}", False) for i in range(config["n_refiner_layers"])),
    ]
    found = {ours: Place(weight=theirs) for ours, theirs in EDGES.items()}
    for block, modulated in blocks:
        for i, part in enumerate("qkv"):
            found[f"{block}.attention.to_{part}"] = Place(
                weight=f"{block}.attention.qkv", rows=(i * width, width)
            )
        found[f"{block}.attention.to_out.0"] = Place(weight=f"{block}.attention.out")
        for name in (*PLAIN, *(["adaLN_modulation.0"] if modulated else [])):
            found[f"{block}.{name}"] = Place(weight=f"{block}.{name}")
    return found


def key_map(config: Mapping[str, Any]) -> dict[str, Place]:
    """Every name by which a file may call a layer, without the name of the factor."""
    names: dict[str, Place] = {}
    for layer, place in places(config).items():
        # its own names first: diffusers' names win where the two are the same
        names["lora_unet_" + place.weight.replace(".", "_")] = Place(weight=place.weight)
        names.setdefault(f"diffusion_model.{place.weight}", Place(weight=place.weight))
        for name in (f"diffusion_model.{layer}", f"transformer.{layer}", layer):
            names[name] = place
        names["lycoris_" + layer.replace(".", "_")] = place
    return names


def members(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The layers of diffusers that make up each of ComfyUI's weights, in the order of the rows."""
    found: dict[str, list[str]] = {}
    for layer, place in places(config).items():
        found.setdefault(place.weight, []).append(layer)
    return found


def not_loaded(tensors: Mapping[str, Tensor], names: Mapping[str, Place]) -> list[str]:
    """The keys of a file that ComfyUI drops with a line in its log."""
    used = {f"{name}.{part}" for name in names for part in (*FACTORS, "alpha")}
    return sorted(tensors.keys() - used)


def reached(tensors: Mapping[str, Tensor], names: Mapping[str, Place]) -> list[str]:
    """The names of layers under which a file has factors."""
    return [name for name in names if any(f"{name}.{part}" in tensors for part in FACTORS)]


def patched(
    weight: str, value: Tensor, tensors: Mapping[str, Tensor], names: Mapping[str, Place]
) -> Tensor:
    """A float32 copy of one of ComfyUI's weights with all that a file adds to it."""
    value = value.to(torch.float32, copy=True)
    for name, place in names.items():
        if place.weight == weight and (added := difference(name, tensors)) is not None:
            first, rows = place.rows or (0, len(value))
            part = value.narrow(0, first, rows)
            part += added.reshape(part.shape)
    return value


def difference(name: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """What a file adds to the layer that it calls `name`, float32; None where it has nothing."""
    f = {part: tensors[f"{name}.{part}"].float() for part in FACTORS if f"{name}.{part}" in tensors}
    if not f:
        return None
    up = f.get("lora_B.weight", f.get("lora_up.weight"))
    rank = None
    if up is not None:
        down = f["lora_A.weight"] if "lora_A.weight" in f else f["lora_down.weight"]
        rank = len(down)
        added = up @ down
    else:
        for whole in ("lokr_w1", "lokr_w2"):
            if whole not in f:
                rank = len(f[f"{whole}_b"])
                f[whole] = f[f"{whole}_a"] @ f[f"{whole}_b"]
        added = torch.kron(f["lokr_w1"], f["lokr_w2"])
    alpha = tensors.get(f"{name}.alpha")
    return added if alpha is None or rank is None else added * (alpha.item() / rank)
