"""Pictures inside the page: as they are, and smaller without loss where they would be too much."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fewstep.report.results import Picture
from fewstep.runs import RunError

BUDGET = 4_400_000
"""Bytes of all pictures in the page, base64 included; curves and tables need the rest of 5 MB."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A picture as a data URL, and its size in pixels."""

    source: str
    width: int
    height: int


def embed(pictures: Sequence[Picture], budget: int = BUDGET) -> dict[Path, Embedded]:
    """The pictures of a page by path; where they exceed the budget the largest are packed first.

    Packing keeps every pixel; a page may still come out above the budget.
    """
    data = {picture.path: read(picture.path) for picture in pictures}
    for path in sorted(data, key=lambda path: -len(data[path])):
        if sum(encoded_size(own) for own in data.values()) <= budget:
            break
        data[path] = packed(data[path])
    return {path: embedded(own) for path, own in data.items()}


def read(path: Path) -> bytes:
    """The bytes of a PNG; RunError if it is none."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()
    except (OSError, SyntaxError) as error:
        raise RunError(f"{path} is not a PNG picture: {error}; write it anew") from error
    return data


def encoded_size(data: bytes) -> int:
    return 4 * (-(-len(data) // 3))


def packed(data: bytes) -> bytes:
    """The smallest of the PNG as it is, with a palette where its colours allow it, and WebP."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        found = [data, written(image, "WEBP", lossless=True, quality=100, method=4, exact=True)]
        if image.mode == "RGB" and (colours := image.getcolors(256)):
            few = image.quantize(len(colours), dither=Image.Dither.NONE)
            if few.convert("RGB").tobytes() == image.tobytes():
                found.append(written(few, "PNG", optimize=True))
    return min(found, key=len)


def written(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def embedded(data: bytes) -> Embedded:
    with Image.open(io.BytesIO(data)) as image:
        kind = Image.MIME[image.format or ""]
        width, height = image.size
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return Embedded(source=source, width=width, height=height)
