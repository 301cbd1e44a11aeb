"""Pictures with a colour profile against the closed form of what they mean in sRGB."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.icc import (
    ADOBE,
    P3,
    SRGB,
    encoded,
    from_lab,
    gamma,
    in_srgb,
    ink_profile,
    linear,
    profile,
    rgb_profile,
    srgb_curve,
)
from tests.unit.test_folder import faults, put, read

from fewstep.data.pictures import examined, read_picture

PHONE = rgb_profile(P3, srgb_curve())
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIDE = rgb_profile(ADOBE, gamma(563 / 256))


def pixels(path: Path, background: str = "white") -> NDArray[np.float64]:
    return np.asarray(read_picture(path, background)).astype(np.float64)


def saved(path: Path, image: Image.Image, icc: bytes | None = None) -> Path:
    image.save(path, icc_profile=icc)
    return path


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
@pytest.mark.parametrize("version", [2, 4])
def test_display_p3_is_what_its_matrix_says(tmp_path: Path, kind: str, version: int) -> None:
    icc = rgb_profile(P3, srgb_curve(), version)
    path = tmp_path / f"phone.{kind}"
    Image.fromarray(NOISE).save(path, icc_profile=icc, lossless=True)
    found, expected = pixels(path), in_srgb(NOISE, P3, linear)
    assert np.abs(found - expected).max() < 1 and abs((found - expected).mean()) < 0.05
    assert np.abs(expected - NOISE).mean() > 10  # so much it was off without


def test_adobe_rgb_is_what_its_matrix_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "camera.tif", Image.fromarray(NOISE), WIDE)
    expected = in_srgb(NOISE, ADOBE, lambda v: v ** (563 / 256))
    assert np.abs(pixels(path) - expected).max() < 1.1
    # white is white and greys stay grey
    grey = saved(tmp_path / "grey.png", Image.fromarray(np.dstack([GREYS] * 3)), WIDE)
    assert np.ptp(pixels(grey), axis=2).max() <= 1 and pixels(grey)[-1, -1].tolist() == [255] * 3


def test_a_profile_of_srgb_changes_nothing(tmp_path: Path) -> None:
    own = rgb_profile(SRGB, srgb_curve())
    path = saved(tmp_path / "own.png", Image.fromarray(NOISE), own)
    assert np.abs(pixels(path) - NOISE).max() <= 1


def test_alpha_is_kept_and_the_background_is_srgb(tmp_path: Path) -> None:
    alpha = np.broadcast_to(np.array([0, 51, 255], dtype=np.uint8), (4, 3))
    colours = np.broadcast_to(np.array([200, 60, 40], dtype=np.uint8), (4, 3, 3))
    clear = Image.fromarray(np.dstack([colours, alpha]))
    row = pixels(saved(tmp_path / "clear.png", clear, PHONE), "#204060")[0]
    meant, behind = in_srgb(colours[0, 0], P3, linear), np.array([0x20, 0x40, 0x60])
    assert np.array_equal(row[0], behind)
    assert np.abs(row[1] - (0.2 * meant + 0.8 * behind)).max() < 1.2
    assert np.abs(row[2] - meant).max() < 1
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 60, 40, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1, icc_profile=PHONE)
    row = pixels(tmp_path / "palette.png", "#204060")[0]
    assert np.abs(row[0] - meant).max() < 1 and np.array_equal(row[1], behind)


def test_greys(tmp_path: Path) -> None:
    straight = profile("GRAY", {"kTRC": gamma(1)})
    expected = 255 * encoded(GREYS / 255)
    found = pixels(saved(tmp_path / "grey.png", Image.fromarray(GREYS), straight))
    assert np.abs(found - expected[..., None]).max() < 0.6
    clear = Image.merge("LA", [Image.fromarray(GREYS), Image.new("L", (16, 16), 51)])
    found = pixels(saved(tmp_path / "clear.png", clear, straight), "black")
    assert np.abs(found - 0.2 * expected[..., None]).max() < 1
    deep = Image.fromarray(GREYS.astype(np.uint16) * 257)
    found = pixels(saved(tmp_path / "deep.tif", deep, straight))
    assert np.abs(found - expected[..., None]).max() < 0.6
    # greys in a file with a profile of three colours, as many programs write them
    found = pixels(
        saved(tmp_path / "of_rgb.png", Image.fromarray(GREYS), rgb_profile(P3, gamma(1)))
    )
    assert np.abs(found - expected[..., None]).max() < 1.1


def printed(inks: Sequence[int]) -> tuple[float, float, float]:
    """Lab of a corner: paper is white and black is black, as the intent would make them."""
    cyan, magenta, yellow, black = inks
    left = 1 - black
    return (
        left * (100 - 20 * (cyan + magenta + yellow) / 3),
        50 * left * magenta,
        40 * left * yellow,
    )


def test_inks_by_their_profile_or_with_a_doubt(tmp_path: Path) -> None:
    corners = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0]]
    image = Image.fromarray(np.array([corners], dtype=np.uint8) * 255, "CMYK")
    for name in ("ink.tif", "ink.jpg"):  # Pillow turns the inks of a JPEG around, as Adobe does
        path = tmp_path / name
        image.resize((64, 16), Image.Resampling.NEAREST).save(
            path, icc_profile=ink_profile(printed), quality=100, subsampling=0
        )
        found = pixels(path)[8, 8::16]
        expected = [from_lab(printed(corner)) for corner in corners]
        assert np.abs(found - expected).max() < 1, name
        assert examined(path, "white").doubt is None
    image.save(tmp_path / "bare.tif")
    bare, doubt = examined(tmp_path / "bare.tif", "white")
    assert np.asarray(bare)[0].tolist() == [[255] * 3, [0] * 3, [255, 0, 0], [255, 255, 0]]
    assert doubt == "it is in inks (CMYK) without a colour profile, so that its colours are a guess"


def png_of_16_bits(path: Path, values: NDArray[np.uint16]) -> Path:
    """RGB, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ))  # fmt: skip
    return path


def test_colours_of_16_bits_are_within_one_of_255(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (32, 32, 3)).astype(np.uint16)
    found = pixels(png_of_16_bits(tmp_path / "deep.png", values))
    assert np.abs(found - values / 257).max() < 1 and abs((found - values / 257).mean()) < 0.05


def test_a_broken_profile_is_a_warning_with_the_files_name(tmp_path: Path) -> None:
    broken = {
        "cut.png": PHONE[:300], "nonsense.png": b"nonsense" * 40,
        "of_grey.png": profile("GRAY", {"kTRC": gamma(1)}), "bare.png": profile("RGB ", {}),
    }  # fmt: skip
    for i, (name, icc) in enumerate(broken.items()):
        with Image.open(put(tmp_path / name, seed=i)) as image:
            saved(tmp_path / name, image.copy(), icc)
            assert np.array_equal(pixels(tmp_path / name), np.asarray(image))
    put(tmp_path / "whole.png", seed=9)
    folder = read(tmp_path)
    assert len(folder.pictures) == 5 and not folder.left_out
    for name, warning in zip(sorted(broken), folder.warnings, strict=True):
        assert warning.startswith(f"{name}: its colour profile cannot be used (")
        assert warning.endswith(") and is left aside")


def test_the_same_numbers_under_another_profile_are_another_picture(tmp_path: Path) -> None:
    for name, icc in (("a.png", None), ("b.png", PHONE), ("c.png", WIDE), ("d.png", PHONE)):
        put(tmp_path / name)
        saved(tmp_path / name, Image.fromarray(NOISE), icc)
    folder = read(tmp_path)
    assert len({picture.content for picture in folder.pictures}) == 3
    assert faults(folder) == {"d.png": "duplicate"}
