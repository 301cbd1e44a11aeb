"""Pictures of every kind to known pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.data.buckets import Size, fit
from fewstep.data.pictures import PictureError, colour, content_hash, filling, frames, read_picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = np.array([[RED, GREEN], [BLUE, WHITE], [RED, RED]], dtype=np.uint8)
"""3 rows and 2 columns, different under every turn."""


def pixels(path: Path, background: str = "white") -> np.ndarray:
    return np.asarray(read_picture(path, background))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    # how a camera lays the picture down so that `orientation` stands it up (EXIF 2.3, tag 274)
    laid = {
        1: CORNERS, 2: CORNERS[:, ::-1], 3: CORNERS[::-1, ::-1], 4: CORNERS[::-1],
        5: CORNERS.transpose(1, 0, 2), 6: np.rot90(CORNERS), 7: np.rot90(CORNERS, 2).swapaxes(0, 1),
        8: np.rot90(CORNERS, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(laid)).save(path, exif=exif)
    assert np.array_equal(pixels(path), CORNERS)


def test_alpha_on_a_background(tmp_path: Path) -> None:
    values = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [255, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "alpha.png")
    on_blue = [RED, BLUE, (51, 0, 204)]  # 51 / 255 = 0.2 of red on 0.8 of blue
    assert pixels(tmp_path / "alpha.png", "#0000ff").tolist() == [[list(c) for c in on_blue]]
    grey = Image.fromarray(np.array([[[100, 255], [100, 0]]], dtype=np.uint8), "LA")
    grey.save(tmp_path / "grey.png")
    assert pixels(tmp_path / "grey.png", "lime").tolist() == [[[100] * 3, list(GREEN)]]


def test_palette_with_and_without_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    assert pixels(tmp_path / "opaque.png").tolist() == [[list(RED), list(BLUE)]]
    assert pixels(tmp_path / "clear.png").tolist() == [[list(WHITE), list(BLUE)]]


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 128, 129, 257 * 100, 257 * 100 + 129, 65535]], dtype=np.uint16)
    path = tmp_path / f"deep.{kind}"
    Image.fromarray(values).save(path)
    assert pixels(path)[..., 0].tolist() == [[0, 0, 1, 100, 101, 255]]


def test_grey_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 200]], dtype=np.uint8)).save(tmp_path / "grey.png")
    assert pixels(tmp_path / "grey.png").tolist() == [[[7] * 3, [200] * 3]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert pixels(tmp_path / "bit.png").tolist() == [[list(WHITE), [0, 0, 0]]]
    inks = np.array([[[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "ink.tif")
    assert pixels(tmp_path / "ink.tif").tolist() == [[list(WHITE), list(RED), [0, 0, 0]]]


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("png", "jpg"):
        whole = tmp_path / f"whole.{kind}"
        Image.fromarray(noise).save(whole)
        data = whole.read_bytes()
        (tmp_path / f"cut.{kind}").write_bytes(data[: len(data) // 2])
        with pytest.raises(PictureError, match="cannot be decoded"):
            read_picture(tmp_path / f"cut.{kind}", "white")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match="its kind is not known"):
        read_picture(tmp_path / "text.png", "white")
    (tmp_path / "empty.png").touch()
    with pytest.raises(PictureError, match="its kind is not known"):
        read_picture(tmp_path / "empty.png", "white")
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(PictureError, match="floating-point"):
        read_picture(tmp_path / "float.tif", "white")


def test_the_hash_is_of_the_pixels(tmp_path: Path) -> None:
    image = Image.fromarray(CORNERS)
    for name in ("a.png", "b.bmp", "c.tif"):
        image.save(tmp_path / name)
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "d.png")
    hashes = [content_hash(read_picture(p, "white")) for p in sorted(tmp_path.iterdir())]
    assert len(set(hashes[:3])) == 1 and hashes[3] != hashes[0]


def test_filling_crops_the_middle_without_a_shift() -> None:
    # 8 columns: 2 red, 4 green, 2 blue; the middle half is green alone
    row = [RED] * 2 + [GREEN] * 4 + [BLUE] * 2
    image = Image.fromarray(np.array([row] * 4, dtype=np.uint8))
    square = fit(4, 8, [Size(4, 4)])
    assert filling(image, square).permute(1, 2, 0).reshape(-1, 3).unique(dim=0).tolist() == [
        [0, 1, 0]
    ]
    ramp = Image.fromarray(np.arange(32, dtype=np.uint8).reshape(1, 32).repeat(16, 0) * 8)
    halved = filling(ramp.convert("RGB"), fit(16, 32, [Size(8, 16)]))
    assert halved.shape == (3, 8, 16) and halved.dtype == torch.float32
    # two neighbours of a ramp have their mean in the middle
    expected = torch.arange(2, 14) * 16 / 255 + 4 / 255
    torch.testing.assert_close(halved[0, 4, 2:14], expected, atol=0.6 / 255, rtol=0)


def test_colours_and_frames(tmp_path: Path) -> None:
    assert colour("black") == (0, 0, 0) and colour("#0a1B2c") == (10, 27, 44)
    for wrong in ("#fff", "#00000000", "whit", ""):
        with pytest.raises(ValueError, match="a colour is #rrggbb or a name"):
            colour(wrong)
    red, blue = (Image.new("RGB", (2, 2), c) for c in (RED, BLUE))
    red.save(tmp_path / "two.gif", save_all=True, append_images=[blue])
    assert frames(tmp_path / "two.gif") == 2
    assert pixels(tmp_path / "two.gif")[0, 0].tolist() == list(RED)


def test_the_second_picture_of_a_phone_is_no_frame(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (16, 16), c) for c in (RED, BLUE))
    red.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[blue])
    with Image.open(tmp_path / "phone.jpg") as opened:
        assert opened.format == "MPO"
    assert frames(tmp_path / "phone.jpg") == 1
    assert pixels(tmp_path / "phone.jpg")[0, 0].tolist() == pytest.approx(RED, abs=3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, beside the error
@pytest.mark.parametrize("kind", ["gif", "tif", "webp", "png"])
def test_a_file_of_frames_that_is_cut_anywhere_is_read_or_says_why(
    kind: str, tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)
    first, *more = (Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(3))
    path = tmp_path / f"frames.{kind}"
    first.save(path, save_all=True, append_images=more)
    whole, counted = path.read_bytes(), set[int]()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        try:
            read_picture(path, "white")
            counted.add(frames(path))
        except PictureError as error:
            assert "decoded" in str(error) or "what follows its first frame" in str(error)
    assert counted <= {1, 2, 3}
