"""Latents and conditions of a folder of pictures, a safetensors file for each.

The name of a file is the hash of its key, and the key is everything that decides its content: so
a changed picture or caption is read anew and nothing else, and what was made by another model is
never found. The key and a checksum lie in the file's own header.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewstep.data.cache import Key
from fewstep.errors import UserError
from fewstep.hashing import text_hash
from fewstep.runs import write_atomic


class PictureCache:
    """Tensors by key. Processes may share the directory: each file is written whole, and two that
    make the same one write the same."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"latents of pictures cannot be kept in {directory}: {error.strerror}; set "
                "data.cache to a folder of yours"
            ) from None

    def path(self, key: Key) -> Path:
        return self.directory / f"{text_hash(written(key))}.safetensors"

    def get(self, key: Key, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of a key, float32, made and written where it is not there yet.

        UserError for a damaged file, and for a tensor that is not finite.
        """
        path = self.path(key)
        if path.exists():
            return verified(path, key)
        value = make().detach().float().cpu().contiguous()
        if not value.isfinite().all():
            raise UserError(
                f"the model's reading of a picture or caption is not finite ({written(key)}); try "
                "dtype = float32"
            )
        header = {"key": written(key), "crc32": str(checksum(value))}
        write_atomic(path, save({"value": value}, metadata=header))
        return value


def written(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


def checksum(value: Tensor) -> int:
    return zlib.crc32(value.view(torch.uint8).numpy().tobytes())


def verified(path: Path, key: Key) -> Tensor:
    """The tensor in a file, if it is what was written under this key; UserError names the file.

    safetensors itself loads flipped bits in silence.
    """
    remedy = "delete it and run the same command to make it again"
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            value = file.get_tensor("value")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    if header.get("key") != written(key) or header.get("crc32") != str(checksum(value)):
        raise UserError(f"{path} is damaged (its key or its crc32 differs); {remedy}")
    return value
