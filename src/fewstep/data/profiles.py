"""Colour profiles: what phones (Display P3), cameras (Adobe RGB) and print shops (inks) mean by
their numbers, in the sRGB that every model was trained on."""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageCms

SRGB = ImageCms.createProfile("sRGB")


class InSRGB(NamedTuple):
    image: Image.Image
    """RGB."""
    doubt: str | None
    """What should be told of its colours, as a clause."""


def to_srgb(image: Image.Image, profile: bytes | None) -> InSRGB:
    """An opaque picture ("L", "RGB" or "CMYK") whose file holds this ICC profile, by the perceptual
    intent; without a profile, or with a broken one, it is what Pillow makes of it."""
    if not profile:
        return InSRGB(image.convert("RGB"), guessed(image))
    try:
        found = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = found.profile.xcolor_space  # pyright: ignore[reportAttributeAccessIssue]
        if image.mode == "L" and space == "RGB ":
            image = image.convert("RGB")  # many programs write greys so
        converted = ImageCms.profileToProfile(
            image, found, SRGB, ImageCms.Intent.PERCEPTUAL, "RGB", flags=precision(image)
        )
    except (ImageCms.PyCMSError, OSError) as error:
        told = f"its colour profile cannot be used ({error}) and is left aside"
        return InSRGB(image.convert("RGB"), told)
    assert converted is not None  # as nothing is converted in place
    return InSRGB(converted, None)


def guessed(image: Image.Image) -> str | None:
    if image.mode != "CMYK":
        return None
    return "it is in inks (CMYK) without a colour profile, so that its colours are a guess"


def precision(image: Image.Image) -> ImageCms.Flags:
    """The library's table for greys is too coarse: dark ones of a linear profile are 10 of 255 off.
    Those for colours are within one."""
    return ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE
