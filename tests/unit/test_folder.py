"""Rows of a folder: what is read and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewstep.data.buckets import buckets
from fewstep.data.captions import CaptionError, paired, triggered
from fewstep.data.folder import Folder, FolderConfig, Remark, read_folder
from fewstep.errors import UserError

SIZES = buckets(64, 8)


def put(
    path: Path, caption: str | None = "a cat", width: int = 80, height: int = 80, seed: int = 0
) -> Path:
    """A picture of noise, and its caption beside it."""
    draws = np.random.default_rng(seed)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def read(root: Path, **values: object) -> Folder:
    return read_folder(FolderConfig(path=str(root), size=64, **values), SIZES)  # type: ignore[arg-type]


def faults(folder: Folder) -> dict[str, str]:
    return {remark.file: remark.fault for remark in folder.left_out}


def test_every_bad_row_is_named_and_the_good_ones_go_on(tmp_path: Path) -> None:
    put(tmp_path / "good.png", seed=1)
    put(tmp_path / "same.bmp", seed=1)
    put(tmp_path / "bare.png", None, seed=2)
    put(tmp_path / "empty.jpg", " \n\n", seed=3)
    put(tmp_path / "strip.png", width=3000, height=20, seed=4)
    whole = put(tmp_path / "cut.png", seed=5)
    whole.write_bytes(whole.read_bytes()[:4000])
    put(tmp_path / "latin.png", seed=6).with_suffix(".txt").write_bytes(b"caf\xe9")
    put(tmp_path / "named.png", "a [trigger]", seed=7)
    put(tmp_path / "small.png", width=32, height=40, seed=8)
    (tmp_path / "lonely.txt").write_text("a dog")
    (tmp_path / "lonely.enhanced.txt").write_text("a big dog")
    for name in (".DS_Store", "notes.md", "song.mp3", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "old").mkdir()
    folder = read(tmp_path)
    assert [picture.file for picture in folder.pictures] == ["good.png", "small.png"]
    assert faults(folder) == {
        "same.bmp": "duplicate", "bare.png": "no caption", "empty.jpg": "empty caption",
        "strip.png": "too long or too wide", "cut.png": "unreadable", "latin.png": "bad caption",
        "named.png": "bad caption", "lonely.txt": "no picture", "lonely.enhanced.txt": "no picture",
    }  # fmt: skip
    why = {remark.file: remark.why for remark in folder.left_out}
    assert why["same.bmp"] == "it is the same as good.png"
    assert why["strip.png"] == "of its 3000 x 20 pixels 97% would be cropped"
    assert why["bare.png"] == "there is no bare.txt beside it"
    assert set(folder.ignored) == {".DS_Store", "notes.md", "song.mp3", ".hidden.png", "old/"}
    # 32 x 40 to 56 x 72: the width is full, and 72 / 40 > 56 / 32
    assert folder.warnings == ("small.png: it is smaller than its bucket and enlarged 1.80 times",)


def test_half_of_a_picture_may_be_cropped_and_no_more(tmp_path: Path) -> None:
    put(tmp_path / "half.png", width=512, height=64, seed=1)  # 8 : 1 in the bucket of 4 : 1
    put(tmp_path / "more.png", width=520, height=64, seed=2)
    folder = read(tmp_path)
    assert [(p.file, p.fit.cropped) for p in folder.pictures] == [("half.png", 0.5)]
    assert faults(folder) == {"more.png": "too long or too wide"}


def test_no_good_row_is_one_sentence_with_the_counts(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"{i}.png", None, seed=i)
    (tmp_path / "lonely.txt").write_text("a dog")
    (tmp_path / "x.zip").touch()
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert "3 x no caption, 1 x no picture; 1 other files" in str(error.value)
    assert "1 other files; 0.png: there is no 0.txt beside it): give each" in str(error.value)
    assert "give each picture a .txt of the same name with a caption" in str(error.value)
    put(tmp_path / "0.png", "a [trigger]")
    for i in range(1, 3):
        put(tmp_path / f"{i}.png", "[Trigger]", seed=i)
    with pytest.raises(UserError, match=r"0.png: a caption holds \[trigger\], but no trigger word"):
        read(tmp_path)
    with pytest.raises(UserError, match="nothing in it is a picture; 0 other files"):
        (tmp_path / "empty").mkdir()
        read(tmp_path / "empty")
    (tmp_path / "empty" / "cats").mkdir()
    with pytest.raises(UserError, match=r"; 1 other files.*its pictures come, such as 1_cats/"):
        read(tmp_path / "empty")
    with pytest.raises(UserError, match=r"x.zip' is a file: name the folder it is in"):
        read(tmp_path / "x.zip")
    with pytest.raises(UserError, match=r"the folder of pictures .*gone' does not exist"):
        read(tmp_path / "gone")


def test_captions_are_lines_and_take_the_trigger(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "\ufeffa [trigger] cat\n\n  the hat of sks, red \r\na party hat\n")
    [picture] = read(tmp_path, trigger="sks").pictures
    assert picture.captions == ("a sks cat", "the hat of sks, red", "sks, a party hat")
    assert triggered("a party", "art") == "art, a party"
    assert triggered("a smart cat", "art") == "art, a smart cat"
    assert triggered("an art", "art") == "an art"
    assert triggered("c++ code", "c++") == "c++ code"
    assert triggered("a [Trigger], [TRIGGER]", r"\1") == r"a \1, \1"
    assert triggered("a cat", None) == "a cat"
    with pytest.raises(CaptionError, match=r"holds \[trigger\], but no trigger word is set"):
        triggered("[trigger]", None)


def test_the_second_ending_is_read_where_there_is_no_txt(tmp_path: Path) -> None:
    put(tmp_path / "a.png", None).with_suffix(".caption").write_text("of kohya")
    assert read(tmp_path).pictures[0].captions == ("of kohya",)
    (tmp_path / "a.txt").write_text("the first")
    assert read(tmp_path).pictures[0].captions == ("the first",)


def test_endings_may_be_in_capitals(tmp_path: Path) -> None:
    (put(tmp_path / "a.b.JPG", seed=1).with_suffix(".txt")).rename(tmp_path / "a.b.TXT")
    (put(tmp_path / "c.png", seed=2).with_suffix(".txt")).rename(tmp_path / "c.Txt")
    (tmp_path / "a.b.ENHANCED.TXT").write_text("a tall cat")
    (tmp_path / "c.enhanced.txt").write_text("a wide cat")
    folder = read(tmp_path, context="prompt")
    assert [(p.file, p.enhanced) for p in folder.pictures] == [
        ("a.b.JPG", ("a tall cat",)), ("c.png", ("a wide cat",)),
    ]  # fmt: skip
    assert not folder.left_out


def test_pictures_of_phones_that_are_not_read_and_links_to_nothing_are_rows(tmp_path: Path) -> None:
    put(tmp_path / "good.jpg", seed=1).rename(tmp_path / "good.jfif")
    for name in ("IMG_1.HEIC", "raw.dng"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "IMG_1.txt").write_text("a cat")
    (tmp_path / "gone.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    folder = read(tmp_path)
    assert [picture.file for picture in folder.pictures] == ["good.jfif"]
    assert set(folder.left_out) == {
        Remark("IMG_1.HEIC", "unreadable", "a .heic is not read: save it as .jpg or .png"),
        Remark("raw.dng", "unreadable", "a .dng is not read: save it as .jpg or .png"),
        Remark("gone.png", "unreadable", "it leads to no file"),
        Remark("round.png", "unreadable", "it leads to no file"),
    }
    assert not folder.ignored


def test_enhanced_prompts_pair_with_captions(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "one\ntwo", seed=1)
    put(tmp_path / "b.png", "one\ntwo", seed=2)
    put(tmp_path / "c.png", "one\ntwo", seed=3)
    put(tmp_path / "d.png", "one", seed=4)
    (tmp_path / "a.enhanced.txt").write_text("one [trigger] at length\ntwo at length")
    (tmp_path / "b.enhanced.txt").write_text("both")
    (tmp_path / "c.enhanced.txt").write_text("1\n2\n3")
    folder = read(tmp_path, context="prompt", trigger="sks")
    assert {p.file: p.enhanced for p in folder.pictures} == {
        "a.png": ("one sks at length", "sks, two at length"),
        "b.png": ("sks, both", "sks, both"),
    }
    assert faults(folder) == {"c.png": "bad caption", "d.png": "no enhanced prompt"}
    assert paired(("x",), ("a", "b")) == ("x", "x")
    assert [p.enhanced for p in read(tmp_path, trigger="sks").pictures] == [()] * 4


def test_subfolders_with_a_number_come_so_often(tmp_path: Path) -> None:
    put(tmp_path / "a.png", seed=1)
    put(tmp_path / "10_sks dog" / "b.png", seed=2)
    put(tmp_path / "3_more" / "c.png", seed=3)
    put(tmp_path / "3_more" / "again.png", seed=2)
    put(tmp_path / "0_none" / "d.png", seed=4)
    folder = read(tmp_path, repeats=2)
    assert {p.file: p.repeats for p in folder.pictures} == {
        "a.png": 2, "10_sks dog/b.png": 20, "3_more/c.png": 6
    }  # fmt: skip
    assert folder.left_out == (
        Remark("3_more/again.png", "duplicate", "it is the same as 10_sks dog/b.png"),
    )
    assert folder.ignored == ("0_none/",)


def test_a_picture_whose_later_frames_are_damaged_is_trained_on_and_told(tmp_path: Path) -> None:
    path = put(tmp_path / "a.gif", width=64, height=64)
    alone = path.stat().st_size
    with Image.open(path) as first:
        first.save(path, save_all=True, append_images=[Image.new("L", (64, 64))])
    # the second frame breaks off within the 9 numbers of its place and size
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b",", alone) + 3])
    folder = read(tmp_path)
    assert [picture.file for picture in folder.pictures] == ["a.gif"]
    [told] = folder.warnings
    assert told.startswith("a.gif: what follows its first frame is damaged (")


def test_wrong_values_are_named() -> None:
    for values, told in (
        ({"size": 0}, "data.folder.size must be >= 1, got 0"),
        ({"repeats": 0}, "data.folder.repeats must be >= 1, got 0"),
        ({"trigger": " "}, "data.folder.trigger must be a word, or none"),
        ({"background": "whit"}, "data.folder.background: a colour is #rrggbb or a name"),
    ):
        with pytest.raises(ValueError, match=told):
            FolderConfig(**values)  # type: ignore[arg-type]
    first = FolderConfig(
        path="a", trigger="sks", context="picture", repeats=3, prompts="p", regularisation="b"
    )
    second = replace(
        first, path="b", trigger=None, context="none", repeats=1, prompts=None, regularisation=None
    )
    assert first.of_regularisation() == second
