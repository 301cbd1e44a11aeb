"""Further prompts of a folder: which picture each is read beside, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.test_folder import faults, put, read

from fewstep.data import folder_report
from fewstep.data.folder import Folder
from fewstep.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures that are trained on, the last in a subfolder, and one that is not."""
    put(tmp_path / "p" / "a.png", "[trigger]\na [trigger] hat", seed=1)
    put(tmp_path / "p" / "bare.png", None, seed=2)
    put(tmp_path / "p" / "z.png", "[trigger]", seed=3)
    put(tmp_path / "p" / "3_more" / "b.png", "[trigger]", seed=4)
    return tmp_path


def read_with(root: Path, text: str | bytes, name: str = "wanted.txt") -> Folder:
    """The folder, with these further prompts in a file of this name."""
    path = root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(root / "p", trigger="sks", prompts=str(path))


def test_each_prompt_is_read_beside_the_next_picture(root: Path) -> None:
    folder = read_with(root, "\ufeffone [trigger]\ntwo sks\r\n\n three \n[Trigger] four\nfive sks")
    assert {p.file: p.prompts for p in folder.pictures} == {
        "a.png": ("one sks", "sks four"), "z.png": ("two sks", "five sks"),
        "3_more/b.png": ("sks, three",),
    }  # fmt: skip
    assert folder.pictures[0].captions == ("sks", "a sks hat")
    few = read_with(root, "one sks")
    assert [p.prompts for p in few.pictures] == [("one sks",), (), ()]
    none = read(root / "p", trigger="sks")
    assert [p.prompts for p in none.pictures] == [()] * 3


def test_doubles_count_once_and_shift_nobody(root: Path) -> None:
    """They are the same as the model reads them, not as they are written."""
    folder = read_with(root, "a dog\nsks, a dog\n[trigger], a dog\na cat\na dog\na fox\n")
    assert [p.prompts for p in folder.pictures] == [(f"sks, a {x}",) for x in ("dog", "cat", "fox")]


@pytest.mark.parametrize("name", ["p/wanted.txt", "p/notes.md", "p/.wanted", "p/3_more/w.txt"])
def test_the_file_may_lie_in_the_folder(root: Path, name: str) -> None:
    (root / "p" / "lonely.txt").write_text("a dog")
    (root / "p" / "song.mp3").touch()
    around = f"p/3_more/../../{name}"
    folder = read_with(root, "a dog", around)
    assert faults(folder) == {"bare.png": "no caption", "lonely.txt": "no picture"}
    assert folder.ignored == ("song.mp3",)
    assert folder.pictures[0].prompts == ("sks, a dog",)
    unsaid = read(root / "p", trigger="sks")
    assert len(unsaid.left_out) + len(unsaid.ignored) == 4


def test_a_name_alone_is_of_a_file_in_the_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    (root / "wanted.txt").write_text("a dog")
    (root / "p" / "wanted.txt").write_text("a cat")
    assert read(root / "p", trigger="sks", prompts="wanted.txt").pictures[0].prompts == (
        "sks, a cat",
    )


def test_a_link_to_nothing_beside_the_file_is_a_row_as_ever(root: Path) -> None:
    (root / "p" / "gone.png").symlink_to(root / "elsewhere.png")
    (root / "p" / "round.png").symlink_to(root / "p" / "round.png")
    folder = read_with(root, "a dog", "p/wanted.txt")
    assert faults(folder) == {
        "bare.png": "no caption", "gone.png": "unreadable", "round.png": "unreadable",
    }  # fmt: skip


def test_a_file_that_gives_no_prompts_is_one_sentence(root: Path) -> None:
    named = r"^data\.folder\.prompts is '.*"
    to_do = ": name a UTF-8 text file with one prompt a line, or set it to none$"
    with pytest.raises(UserError, match=named + r"gone', but in .*/p gone cannot be read \(No "):
        read(root / "p", prompts=str(root / "gone"))
    with pytest.raises(
        UserError, match=named + r"/p', but in .*/p p cannot .* \(Is a directory\)" + to_do
    ):
        read(root / "p", prompts=str(root / "p"))
    with pytest.raises(
        UserError, match=named + r"but in .*/p wanted.txt is not UTF-8 text .*" + to_do
    ):
        read_with(root, b"a caf\xe9")
    for empty in ("", " \n\ufeff\n\n"[:2], "\ufeff"):
        with pytest.raises(
            UserError, match=named + "which holds no prompt: write one a line, or set it to none$"
        ):
            read_with(root, empty)
    (root / "wanted.txt").write_text("a dog\na [Trigger] dog")
    with pytest.raises(
        UserError,
        match=named + r"holds \[Trigger\], but no trigger word is set \(data.folder.trigger\); set "
        "that, or write the prompts without$",
    ):
        read(root / "p", prompts=str(root / "wanted.txt"))


def test_the_file_is_looked_at_before_the_pictures(root: Path) -> None:
    for path in (root / "p").glob("**/*.txt"):
        path.unlink()
    with pytest.raises(UserError, match="which holds no prompt"):
        read_with(root, "")
    with pytest.raises(UserError, match="has no picture to train on"):
        read_with(root, "a dog")


def test_the_report_tells_of_them(root: Path) -> None:
    folder = read_with(root, "one sks\ntwo sks\nthree sks\nfour sks")
    facts = json.loads(json.dumps(folder_report.facts(folder)))
    assert [row["prompts"] for row in facts["rows"]] == [
        ["one sks", "four sks"], ["two sks"], ["three sks"],
    ]  # fmt: skip
    path = f"{root / 'p'}"
    assert folder_report.lines(folder)[-1].startswith(
        f"{path}: 3 pictures with 4 captions and 4 further prompts, 1 left out; at most 0% of a "
        "picture cropped; buckets"
    )
    said = f"{path}: training on 3 pictures and 4 further prompts, 1 left out, 0 warnings"
    assert folder_report.brief(facts)[-1] == said
