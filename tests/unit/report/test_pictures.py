"""Pictures in the page: as they are while there is room, then packed without losing a pixel."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.report.pictures import embed, packed, read
from fewstep.report.results import Picture
from fewstep.runs import RunError


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_packing_loses_no_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(200), np.arange(200))[..., None] * np.array([1, 0.5, 0.2])
    for name, image in {
        "few colours": rng.integers(0, 2, (200, 200, 1), dtype=np.uint8)
        * np.full(3, 255, np.uint8),
        "many colours": smooth.astype(np.uint8),
        "noise": rng.integers(0, 256, (50, 50, 3), dtype=np.uint8),
    }.items():
        path = tmp_path / f"{name}.png"
        Image.fromarray(image).save(path)
        data = path.read_bytes()
        small = packed(data)
        assert len(small) <= len(data), name
        np.testing.assert_array_equal(pixels(small), image)
    small = packed((tmp_path / "many colours.png").read_bytes())
    assert len(small) < (tmp_path / "many colours.png").stat().st_size


def test_the_largest_are_packed_first_and_only_if_they_must(tmp_path: Path) -> None:
    pictures: list[Picture] = []
    for name, size in (("small", 20), ("large", 300)):
        path = tmp_path / f"{name}.png"
        tile = np.arange(size * size * 3, dtype=np.uint32).reshape(size, size, 3) % 251
        Image.fromarray(tile.astype(np.uint8)).save(path, compress_level=0)
        pictures.append(Picture(path=path, caption=name))
    small, large = (p.path for p in pictures)
    kept = embed(pictures)
    assert all(own.source.startswith("data:image/png;base64,") for own in kept.values())
    assert (kept[large].width, kept[large].height) == (300, 300)
    tight = embed(pictures, budget=100_000)
    assert tight[small].source == kept[small].source
    assert len(tight[large].source) < len(kept[large].source) / 2


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_text("not a picture")
    with pytest.raises(RunError, match=r"x\.png is not a PNG picture: .*; write it anew"):
        read(path)
