"""Picture files to pixels: upright, sRGB of 8 bits, on a background, in their bucket."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError, __version__
from torch import Tensor

from fewstep.data.buckets import Fit
from fewstep.data.profiles import InSRGB, to_srgb

LIBRARY = f"pillow {__version__}"
"""What decodes and scales: a part of the key of everything that is made from pixels."""

GREY16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Greys up to 65535, which Pillow cuts off at 255 where it converts them itself."""
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Colours that are multiplied by their alpha, and as what they are not."""
BROKEN = (
    OSError, EOFError, ValueError, TypeError, LookupError, SyntaxError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise at a damaged file, or at one that claims to be too large."""


class PictureError(ValueError):
    """A picture that cannot be read; the message is why, as a clause."""


def colour(text: str) -> tuple[int, int, int]:
    """RGB of a name or #rrggbb; ValueError for anything else."""
    if text.startswith("#") and not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"a colour is #rrggbb or a name, got {text!r}")
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ValueError(f"a colour is #rrggbb or a name such as white, got {text!r}") from None
    return red, green, blue


def read_picture(path: Path, background: str) -> Image.Image:
    """The picture as a viewer shows it: turned as its EXIF says, in sRGB, with `background` behind
    what is transparent; the first frame of several. PictureError says why it cannot be read."""
    return examined(path, background).image


def examined(path: Path, background: str) -> InSRGB:
    """The same, and what should be told of its colours."""
    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except BROKEN as error:
        why = "its kind is not known" if isinstance(error, UnidentifiedImageError) else error
        raise PictureError(f"it cannot be decoded ({why})") from error
    profile = image.info.get("icc_profile")
    if image.mode in GREY16:
        return to_srgb(eight_bits(image), profile)
    if image.mode == "F":
        raise PictureError("its pixels are floating-point numbers, whose white is not known")
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    seen = to_srgb(opaque(image), profile)
    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return seen
    front, behind = seen.image.copy(), Image.new("RGBA", image.size, colour(background))
    front.putalpha(image.convert("RGBA").getchannel("A"))
    return seen._replace(image=Image.alpha_composite(behind, front).convert("RGB"))


def opaque(image: Image.Image) -> Image.Image:
    """Its colours alone, as "L", "RGB" or "CMYK": what a colour profile can be of."""
    match image.mode:
        case "RGB" | "CMYK":
            return image
        case "1" | "L" | "LA":
            return image.convert("L")
        case _:
            # by way of RGBA, or Pillow warns of a palette with transparent colours
            return image.convert("RGBA").convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits, 65535 white, rounded to 8."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise PictureError("its greys go beyond 16 bits, so its white is not known")
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def frames(path: Path) -> int:
    """How many pictures lie in a file whose first can be read; PictureError where another one is
    damaged. What phones put behind a JPEG (its depth, its preview: MPO) are none."""
    try:
        with Image.open(path) as image:
            # Pillow gives the number to kinds that may have several
            return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except BROKEN as error:
        raise PictureError(f"what follows its first frame is damaged ({error})") from error


def content_hash(image: Image.Image) -> str:
    """Equal for equal pixels, in whatever file they lie."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def filling(image: Image.Image, fit: Fit) -> Tensor:
    """(3, H, W) in [0, 1]: the kept part of an RGB picture, scaled to its bucket."""
    height, width = fit.size
    scaled = image.resize((width, height), Image.Resampling.LANCZOS, box=fit.box)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).float() / 255
