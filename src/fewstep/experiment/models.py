"""Models and worlds by the names that an experiment gives them, and the device they run on."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import assert_never

import torch
from torch import nn

from fewstep.errors import UserError
from fewstep.experiment.config import Engine, Experiment, WorldName
from fewstep.experiment.packing import pack_blocks
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import FusedZImage, product_dtype
from fewstep.nets.packed import FrozenName
from fewstep.runs import user_path
from fewstep.worlds.base import World
from fewstep.worlds.shapes.world import LEVELS, Shapes


def choose_device(experiment: Experiment) -> torch.device:
    match experiment.device:
        case "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        case "cuda" if not torch.cuda.is_available():
            raise UserError("device is cuda, but torch finds no CUDA device; use device = cpu")
        case "cpu" | "cuda":
            return torch.device(experiment.device)
        case _:
            assert_never(experiment.device)


def model_path(model: str) -> str:
    """A directory or hub id; "shapes" is the one in the package. UserError if it is not there."""
    if model != "shapes":
        path = user_path(model)
        return str(path) if path.exists() else model
    packaged = Path(str(resources.files("fewstep.worlds.shapes"))) / "model"
    if not (packaged / "model_index.json").is_file():
        raise UserError(
            f"the Shapes model is not in this installation ({packaged}); install the package anew"
        )
    return str(packaged)


def load_family(
    model: str, device: torch.device, dtype: str = "float32", engine: Engine = "plain",
    frozen: FrozenName = "dtype",
) -> ZImage:  # fmt: skip
    """`frozen` packs its blocks before they come to the device."""
    family = ZImage.load(model_path(model), dtype=getattr(torch, dtype))
    if frozen != "dtype":
        pack_blocks(family, frozen)
    match engine:
        case "plain":
            pass
        case "fused" | "compiled":
            transformer = family.pipeline.transformer
            family.backbone = FusedZImage(
                transformer, product_dtype(device), compiled=engine == "compiled"
            )
        case _:
            assert_never(engine)
    family.pipeline.to(device)
    if family.pictures is not None:
        nn.Module.to(family.pictures.model, device)  # its own annotation of `to` is broken
    return family


def slow_numbers(experiment: Experiment, device: torch.device) -> list[str]:
    """A line where the device multiplies what was asked for in plain loops. Dense engines multiply
    in what it is fast at, whatever the weights are."""
    if experiment.engine != "plain" or product_dtype(device) == torch.bfloat16:
        return []
    asked = [("dtype", experiment.dtype)] + [
        (f"optim.{name}.weights", cfg.weights) for name, cfg in experiment.optim.given().items()
    ]
    return [
        f"{key} is {value}, and this {device.type} has no units for bfloat16: products take up to "
        f"sixty times as long as in float32; set {key} to float32"
        for key, value in asked if value != "float32"
    ][:1]  # fmt: skip


def make_world(experiment: Experiment) -> World | None:
    return world_named(experiment.world)


def world_named(name: WorldName) -> World | None:
    match name:
        case "shapes" | "shapes-pairs" | "shapes-crowded" | "shapes-hard":
            return Shapes(LEVELS[name], name)
        case "none":
            return None
        case _:
            assert_never(name)
