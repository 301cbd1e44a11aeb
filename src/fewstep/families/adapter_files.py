"""Adapter files that load everywhere: diffusers' and ComfyUI's common naming, written and opened.

    diffusion_model.<layer>.lokr_w1   .lokr_w2 (or .lokr_w2_a and .lokr_w2_b)
    diffusion_model.<layer>.lora_A.weight   .lora_B.weight

The layers are diffusers' own (split q, k and v, and to_out.0), in bfloat16, one decompose_factor in
a file. There is no .alpha, so no reader can scale by it, and no `lora_adapter_metadata`, which
would take the place of diffusers' inference from shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep.errors import UserError
from fewstep.families.adapter_state import (
    Factors,
    State,
    by_layer,
    common_factor,
    kind_of,
    shape_of,
    split_of,
)
from fewstep.runs import replacing

PREFIX = "diffusion_model."
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
IN_FILE = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}
"""Factors whose name in a file is another one."""


@dataclass(frozen=True, kw_only=True)
class AdapterCard:
    """What the header of a file tells of its origin. All of it becomes strings."""

    method: str
    """For example "sda"."""
    base_model: str
    """Name of the model that the adapter is for."""
    base_hash: str
    """`Family.fingerprint()` of that model."""
    teacher_hash: str
    recipe: str
    step: int
    licence: str
    trigger_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("method", "base_model", "base_hash", "licence"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty: a file has to say where it is from")
        if self.step < 0:
            raise ValueError(f"step must be >= 0, got {self.step}")
        if wrong := [word for word in self.trigger_words if "," in word or not word.strip()]:
            raise ValueError(f"trigger_words must be words without commas, got {wrong[0]!r}")

    def header(self) -> dict[str, str]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found["trigger_words"] = ", ".join(self.trigger_words)
        found["fewstep_version"] = version("fewstep")
        return {name: str(value) for name, value in found.items()}


def write(path: Path, state: State, card: AdapterCard) -> None:
    """Write the file whole or not at all.

    ValueError for an adapter that not every reader can take (see `file_tensors`), RunError where
    the disk is full.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"an adapter file ends in .safetensors, got {path.name}")
    header = card.header() | {"adapter": kind_of(state)}
    tensors = file_tensors(state)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=header)
        except SafetensorError as error:  # how safetensors tells of a full disk
            raise OSError(str(error)) from error


def file_tensors(state: State, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The tensors of a file by their names in it, contiguous, in `dtype` on the CPU.

    ValueError for no layers, LoKr and LoRA together, two factors, or a number that is not finite.
    """
    if kind_of(state) == "lokr":
        common_factor(state)
    found: dict[str, Tensor] = {}
    for layer, factors in by_layer(state).items():
        shape_of(factors)
        for name, tensor in joined(factors).items():
            cast = tensor.detach().to("cpu", dtype)
            if not cast.isfinite().all():
                raise ValueError(f"{layer}.{name} has numbers that are not finite as {dtype}")
            found[f"{PREFIX}{layer}.{IN_FILE.get(name, name)}"] = cast.contiguous().clone()
    return found


def joined(factors: Factors) -> Factors:
    """The factors with w2 multiplied out where its rank is half of its size or more.

    peft makes a whole w2 from that rank on, and diffusers finds no place for the two halves.
    """
    if "lokr_w2_a" not in factors:
        return factors
    (_, rows), (_, columns) = split_of(factors)
    if factors["lokr_w2_a"].shape[1] < max(rows, columns) / 2:
        return factors
    w2 = factors["lokr_w2_a"].float() @ factors["lokr_w2_b"].float()
    return {"lokr_w1": factors["lokr_w1"], "lokr_w2": w2}


def as_written(state: State) -> dict[str, Tensor]:
    """What the file of an adapter holds, under our own keys: rounded to bfloat16."""
    return {
        key.removeprefix(PREFIX).removesuffix(".weight"): tensor
        for key, tensor in file_tensors(state).items()
    }


def scaled(state: State, by: Callable[[str], float]) -> dict[str, Tensor]:
    """The adapter with dW of each layer times `by(layer)`: it is put into the first factor."""
    return {
        key: tensor * by(key.rpartition(".")[0])
        if key.endswith((".lokr_w1", ".lora_B"))
        else tensor
        for key, tensor in state.items()
    }


def open_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a .safetensors file; UserError for anything else."""
    if path.suffix in PICKLES:
        raise UserError(
            f"the adapter {path} is a pickle, which can run code when it is opened; convert it to "
            ".safetensors where you trust it"
        )
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(f"--adapter {path} must be a .safetensors file that exists")
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the adapter {path} cannot be read as .safetensors: {reason}") from error
