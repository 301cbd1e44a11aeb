"""Pictures of one size as one file, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fewstep.evaluate.gallery import from_bytes
from fewstep.evaluate.grids import to_bytes
from fewstep.runs import replacing
from fewstep.shapes import Pixels


def write_strip(path: Path, images: Pixels) -> None:
    """Pictures side by side, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = Image.fromarray(np.concatenate(list(to_bytes(images)), axis=1))
    with replacing(path) as temporary:
        strip.save(temporary, format="png")


def read_strip(path: Path, n: int) -> Pixels:
    """The n pictures of a strip."""
    with Image.open(path) as image:
        strip = np.array(image)
    return from_bytes(np.stack(np.split(strip, n, axis=1)))
