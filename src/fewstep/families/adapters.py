"""Adapter files (LoRA, LoKr) on a loaded pipeline, by diffusers' own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer

from fewstep.errors import UserError
from fewstep.families.zimage import ZImage

NAME = "adapter"


def attach(family: ZImage, path: Path) -> int:
    """Load an adapter file and return the number of modules that it changes.

    UserError for a file that cannot be read or fits nothing: diffusers loads some files with
    foreign names without a word and changes nothing.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(f"--adapter {path} must be a .safetensors file that exists")
    pipeline: Any = family.pipeline
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=NAME)
    except Exception as error:  # whatever diffusers and peft make of a foreign file
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the adapter {path} does not fit this model: {reason}") from None
    count = sum(isinstance(m, BaseTunerLayer) for m in pipeline.transformer.modules())
    if count == 0:
        raise UserError(
            f"the adapter {path} changes nothing in this model: none of its names are the model's"
        )
    return count


def scale(family: ZImage, strength: float) -> None:
    """Set how much of the attached adapter is added: 0 is the model without it."""
    pipeline: Any = family.pipeline
    pipeline.set_adapters([NAME], [strength])
