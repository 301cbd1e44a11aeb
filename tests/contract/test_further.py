"""Further prompts through a tiny real Z-Image: drawn like captions, read beside their pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.contract.test_folder_data import (
    CAPTIONS,
    assert_equal,
    experiment,
    made,
    pixels,
    put_two,
)
from tests.tiny import tiny_zimage

from fewstep.data.cache import Key, difference
from fewstep.data.folder import Folder
from fewstep.experiment.folders import find_folders
from fewstep.experiment.teacher_prompts import asked
from fewstep.families.zimage import ZImage
from fewstep.hashing import text_hash

WANTED = "three [trigger] stars\na [trigger] square on tan\na blue [trigger]"
TEXTS = {
    "a.png": (*CAPTIONS["a.png"], "three sks stars", "a blue sks"),
    "b.png": (*CAPTIONS["b.png"], "a sks square on tan"),
}
"""All that is read with each picture."""


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures with captions, and three further prompts."""
    put_two(tmp_path / "p")
    (tmp_path / "wanted.txt").write_text(WANTED)
    return tmp_path


def folder_of(root: Path, family: ZImage) -> Folder:
    given = experiment(root, context="picture", prompts=str(root / "wanted.txt"))
    found = find_folders(given, family).trained
    assert found is not None
    return found


def test_a_prompt_is_drawn_like_a_caption_and_read_beside_its_picture(
    root: Path, family: ZImage
) -> None:
    data = made(experiment(root, context="picture", prompts=str(root / "wanted.txt")), family)
    files = {row["content"]: row["file"] for row in data.report["folder"]["rows"]}
    encoded = {
        text: family.encode_text([text]).tokens[0] for texts in TEXTS.values() for text in texts
    }
    seen: Counter[tuple[str, str]] = Counter()
    for step in range(60):
        for batch in data.batches(step):
            assert batch.context is not None
            for i, name in enumerate(batch.ids):
                file, tokens = files[name.split("@")[0]], batch.cond.tokens[i]
                [text] = [text for text, own in encoded.items() if torch.equal(own, tokens)]
                if (file, text) not in seen:
                    picture = pixels(root, file)
                    assert torch.equal(batch.x0[[i]], family.encode_image(picture))
                    assert_equal(batch.context[[i]], family.encode_text([text], picture))
                seen[file, text] += 1
    assert set(seen) == {(file, text) for file, texts in TEXTS.items() for text in texts}
    # 120 draws of each picture, 30 of each text of the first and 60 of each of the second
    for (file, text), n in seen.items():
        assert abs(n - 120 / len(TEXTS[file])) < 16, text


def test_the_key_tells_of_them_and_is_as_before_without(root: Path, family: ZImage) -> None:
    def key(prompts: str | None) -> Key:
        return made(experiment(root, context="picture", prompts=prompts), family).key

    bare, wanted = key(None), str(root / "wanted.txt")
    without = [(CAPTIONS[file], ()) for file in ("a.png", "b.png")]
    assert bare["captions_hash"] == text_hash(str(without))
    first = key(wanted)
    hashes = ["captions_hash", "spelling_hash"]
    assert [line.partition(":")[0] for line in difference(bare, first)] == hashes
    assert first == key(wanted)
    # the same prompts in another order are read beside other pictures
    (root / "wanted.txt").write_text("\n".join(sorted(WANTED.splitlines())))
    assert [line.partition(":")[0] for line in difference(first, key(wanted))] == hashes


def test_what_the_model_does_not_hear_of_them_is_told(root: Path, family: ZImage) -> None:
    before = [text for text in folder_of(root, family).warnings if "zebra" in text]
    (root / "wanted.txt").write_text("a red circle " * 200 + "\na [trigger] zebra")
    long, unknown = folder_of(root, family).warnings[-2:]
    assert not before
    # a turn has five tokens more than its 601 words; the tiny transformer has places for 224
    assert long == "a.png: of the 606 tokens of a further prompt the model reads 224"
    assert unknown == "b.png: the model has no word 'sks,', 'sks', 'zebra'"
    (root / "p" / "a.txt").write_text("a red circle " * 201)
    assert "tokens of a caption the model reads" in folder_of(root, family).warnings[-2]


def test_the_check_of_the_teacher_asks_for_what_pictures_show(root: Path, family: ZImage) -> None:
    folder = folder_of(root, family)
    assert sum(len(picture.prompts) for picture in folder.pictures) == 3
    without = replace(folder, pictures=tuple(replace(p, prompts=()) for p in folder.pictures))

    def told(of: Folder) -> list[tuple[object, ...]]:
        return [(a.prompt, a.told, a.picture.file, a.seed, a.novel) for a in asked(of, (), 8)]

    assert told(folder) == told(without)
