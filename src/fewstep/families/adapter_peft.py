"""The scale of an adapter that peft made: in its config, not in the file's tensors.

    scale = alpha / r, or alpha / sqrt(r) with use_rslora        of whole factors too

peft writes the config into a file beside, diffusers into the header. ValueError for one that says
no scale, or another thing than a sum of weights.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft.utils.other import get_pattern_key

HEADER = "lora_adapter_metadata"
BESIDE = "adapter_config.json"


def config_of(path: Path, header: Mapping[str, str], *, beside: bool) -> dict[str, Any] | None:
    """The config of the adapter in the file `path`; None where no peft made it.

    beside  it is peft's own file, whose config must lie beside it
    """
    try:
        if beside:
            if not path.with_name(BESIDE).is_file():
                raise ValueError(f"it is peft's own, whose scale is in {BESIDE}; put that beside")
            config = json.loads(path.with_name(BESIDE).read_text(encoding="utf-8"))
        elif HEADER in header:
            config = json.loads(header[HEADER])
        else:
            return None
        return {key.removeprefix("transformer."): value for key, value in config.items()}
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"the config of peft cannot be read: {error}") from error


def scale_of(config: Mapping[str, Any], layer: str) -> float:
    """What dW of a layer is multiplied by."""
    if config.get("use_dora"):
        raise ValueError(
            "it is a DoRA (use_dora in the config of peft), which is no sum of weights"
        )
    alpha = _number(config, "lora_alpha" if "lora_alpha" in config else "alpha", layer)
    rank = _number(config, "r", layer)
    if rank < 1:
        raise ValueError(f"r in the config of peft is {rank} for {layer}, which is no rank")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _number(config: Mapping[str, Any], name: str, layer: str) -> float:
    """The value of a key, where no pattern gives the layer one of its own."""
    patterns = "rank_pattern" if name == "r" else "alpha_pattern"
    own = config.get(patterns) or {}
    try:
        found = own.get(get_pattern_key(list(own), layer), config.get(name))
    except (AttributeError, TypeError, re.error) as error:
        raise ValueError(f"{patterns} in the config of peft cannot be read: {error}") from error
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"the config of peft has no number {name}")
    if not math.isfinite(found):
        raise ValueError(f"{name} in the config of peft is {found} for {layer}, which is no scale")
    return found
