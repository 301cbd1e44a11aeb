"""Adapter files (LoRA, LoKr, of any trainer that `adapter_formats` knows) on a loaded pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from fewstep.errors import UserError
from fewstep.families.adapter_files import file_tensors
from fewstep.families.adapter_formats import read
from fewstep.families.adapter_state import linear_layers
from fewstep.families.zimage import ZImage

NAME = "adapter"


def attach(family: ZImage, path: Path) -> int:
    """Load an adapter file and return the number of modules that it changes.

    UserError for a file that cannot be read, fits nothing or fits only in part. It reaches
    diffusers under the names of our own files, which diffusers takes whole.
    """
    pipeline: Any = family.pipeline
    state, facts = read(path, linear_layers(pipeline.transformer))
    pipeline.load_lora_weights(file_tensors(state, torch.float32), adapter_name=NAME)
    count = sum(isinstance(m, BaseTunerLayer) for m in pipeline.transformer.modules())
    if count != facts.modules:
        raise UserError(
            f"the adapter {path} changes {count} modules of this model, but has factors for "
            f"{facts.modules}"
        )
    return count


def scale(family: ZImage, strength: float) -> None:
    """Set how much of the attached adapter is added: 0 is the model without it."""
    pipeline: Any = family.pipeline
    pipeline.set_adapters([NAME], [strength])
