"""A folder of pictures: made in sittings, read as it lies there, never guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.squares import Squares
from tests.unit.evaluate.test_generate import ToyFamily

from fewstep.errors import UserError
from fewstep.evaluate import gallery
from fewstep.evaluate.gallery import (
    draw_gallery,
    eight_bit,
    open_gallery,
    read_picture,
    true_pictures,
)
from fewstep.evaluate.generate import GenerationSpec, generate

FAMILY = ToyFamily()
SPEC = GenerationSpec(
    model="toy", fingerprint="f", prompts=("red 0", "green 1", "blue 2"), seeds=(0, 5),
    sigmas=(1.0, 0.5, 0.0), height=32, width=48,
)  # fmt: skip
FACTS = {"dtype": "float32"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw_gallery(tmp_path / "pictures", FAMILY, SPEC, FACTS)
    return tmp_path / "pictures"


def all_of(folder: Path) -> torch.Tensor:
    pictures = open_gallery(folder)
    return pictures.read(0, len(pictures.prompts))


def test_files_hold_what_was_generated(folder: Path) -> None:
    images = generate(FAMILY, FAMILY.backbone, SPEC)
    assert torch.equal(all_of(folder), eight_bit(images))
    assert (eight_bit(images) - images).abs().max() <= 0.5 / 255 + 1e-6
    pictures = open_gallery(folder)
    assert (pictures.prompts, pictures.seeds, pictures.total) == (SPEC.prompts, SPEC.seeds, 6)
    assert torch.equal(pictures.read(1, 2), eight_bit(images)[2:4])


def test_only_what_is_missing_is_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_of(folder)
    (folder / "0001_seed5.png").unlink()
    told: list[tuple[int, int]] = []
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = {"batch_size": 2, "progress": lambda *at: told.append(at)}
    cost = draw_gallery(folder, FAMILY, SPEC, FACTS, **again)
    # one batch: the picture and its neighbour, which stays as it lies there
    assert (cost.images, cost.model_calls) == (2, 4) and told == [(5, 6), (6, 6)]
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert torch.equal(all_of(folder), before)

    def stopped(*_: object, **__: object) -> Iterator[torch.Tensor]:
        raise AssertionError("nothing is left to draw")
        yield

    monkeypatch.setattr(gallery, "stream", lambda *a, tasks, **k: stopped() if tasks else iter(()))
    assert draw_gallery(folder, FAMILY, SPEC, FACTS).images == 0


def test_peak_memory_is_that_of_these_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = 9e9  # of a model before

    def reset() -> None:
        nonlocal peak
        peak = 5e6

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak)
    assert draw_gallery(tmp_path / "p", FAMILY, SPEC, FACTS).peak_memory_mb == 5


def test_an_interrupted_sitting_keeps_whole_pictures(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_gallery(tmp_path / "p", FAMILY, SPEC, FACTS, batch_size=4, progress=stop)
    assert len(list((tmp_path / "p").glob("*.png"))) == 4
    with pytest.raises(UserError, match=r"lacks 2 of 6 pictures, the first is 0002_seed0\.png"):
        open_gallery(tmp_path / "p")
    draw_gallery(tmp_path / "p", FAMILY, SPEC, FACTS, batch_size=1)
    assert torch.equal(all_of(tmp_path / "p"), eight_bit(generate(FAMILY, FAMILY.backbone, SPEC)))


def test_pictures_made_in_another_way_are_not_touched(folder: Path) -> None:
    files = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=r"made in another way \(guidance: 1.0 there, 2.0 here; "):
        draw_gallery(folder, FAMILY, replace(SPEC, guidance=2.0), FACTS)
    with pytest.raises(UserError, match="dtype: 'float32' there, 'bfloat16' here"):
        draw_gallery(folder, FAMILY, SPEC, {"dtype": "bfloat16"})
    with pytest.raises(UserError, match="prompts_hash"):
        draw_gallery(folder, FAMILY, replace(SPEC, prompts=("red 0", "red 1", "red 2")), FACTS)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    draw_gallery(folder, FAMILY, replace(SPEC, model="another name"), FACTS)  # decides nothing
    (folder / "samples.json").unlink()
    with pytest.raises(UserError, match=r"holds pictures but no samples\.json"):
        draw_gallery(folder, FAMILY, SPEC, FACTS)


def test_a_damaged_picture_is_named(folder: Path) -> None:
    path = folder / "0002_seed0.png"
    path.write_bytes(path.read_bytes()[:60])
    pictures = open_gallery(folder)
    assert len(pictures.read(0, 2)) == 4
    with pytest.raises(UserError, match=r"0002_seed0\.png is not a whole picture .* delete it"):
        pictures.read(2, 3)


def test_a_bit_that_fell_over_is_noticed(folder: Path) -> None:
    """Without the checksums about one in a hundred such files reads as another picture."""
    path = folder / "0000_seed0.png"
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise // 8 * 8).save(path)
    whole, pixels = path.read_bytes(), read_picture(path)
    refused = 0
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1
        path.write_bytes(broken)
        try:
            assert np.array_equal(read_picture(path), pixels), at
        except UserError:
            refused += 1
    assert refused > 0.9 * len(whole)


def test_pictures_that_eight_bits_do_not_hold_are_refused(tmp_path: Path) -> None:
    deep = np.full((8, 8), 4000, np.uint16)  # would be read as white
    clear = np.zeros((8, 8, 4), np.uint8)
    for pixels, mode in ((deep, "I;16"), (clear, "RGBA")):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with pytest.raises(UserError, match=rf"a\.png has the mode {mode}; save it with eight bit"):
            read_picture(tmp_path / "a.png")
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), np.full((4, 6, 3), 7))


def test_a_size_that_cannot_be_leaves_no_folder(tmp_path: Path) -> None:
    class Strict(ToyFamily):
        def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
            raise UserError("no such size")

    with pytest.raises(UserError, match="no such size"):
        draw_gallery(tmp_path / "p", Strict(), SPEC, FACTS)
    assert not (tmp_path / "p").exists()


def test_prompts_that_join_to_the_same_text_are_other_prompts(tmp_path: Path) -> None:
    one, two = ("a\nb", "c"), ("a", "b\nc")
    draw_gallery(tmp_path, FAMILY, replace(SPEC, prompts=one), FACTS)
    with pytest.raises(UserError, match=r"made in another way \(prompts\)"):
        draw_gallery(tmp_path, FAMILY, replace(SPEC, prompts=two), FACTS)


def test_pictures_of_two_sizes_are_refused(folder: Path) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "0002_seed5.png")
    with pytest.raises(UserError, match=r"0002_seed5\.png is 32 x 32 .* first picture 6 x 4"):
        all_of(folder)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("no JSON", "cannot be read"),
        ({"seeds": [0]}, "must hold a list 'prompts' of str, got None"),
        ({"prompts": ["a"], "seeds": [0.5]}, "must hold a list 'seeds' of int"),
        ({"prompts": ["a", "a"], "seeds": [0]}, "names one of its prompts twice"),
        (["a"], "must hold a list 'prompts'"),
    ],
)
def test_a_record_that_says_too_little(tmp_path: Path, record: object, said: str) -> None:
    text = record if isinstance(record, str) else json.dumps(record)
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(UserError, match=said):
        open_gallery(tmp_path)


def test_a_folder_without_a_record_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder of pictures: it has no samples\.json"):
        open_gallery(tmp_path)


def test_true_pictures_are_read_as_files_would_show_them() -> None:
    world = Squares()
    pictures = true_pictures(world, SPEC.prompts, SPEC.seeds)
    wanted = world.truth(["green 1", "green 1", "blue 2", "blue 2"], [0, 5, 0, 5])
    assert torch.equal(pictures.read(1, 3), eight_bit(wanted))
