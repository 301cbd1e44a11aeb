"""A folder of pictures through a tiny real Z-Image: latents, conditions, cache, prior, resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.icc import P3, rgb_profile, srgb_curve
from tests.tiny import tiny_zimage
from tests.unit.test_folder import put

from fewstep.data.batches import Batch
from fewstep.data.buckets import buckets, fit
from fewstep.data.cache import difference
from fewstep.data.folder import FolderConfig
from fewstep.data.pictures import filling, read_picture
from fewstep.data.teacher import TeacherSamples
from fewstep.errors import UserError
from fewstep.experiment.config import DataConfig, Experiment, MethodConfig
from fewstep.experiment.folders import find_folders
from fewstep.experiment.samples import Data, data_of
from fewstep.families.base import Cond
from fewstep.families.zimage import ZImage
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.sft import SFTConfig
from fewstep.shapes import Latent, Pixels
from fewstep.worlds.shapes.world import Shapes


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def put_two(folder: Path) -> None:
    """A square with two captions and a wide picture with one."""
    put(folder / "a.png", "a red circle\na [trigger] circle", seed=1)
    put(folder / "b.png", "two blue squares", width=200, height=100, seed=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures with captions, fuller prompts of both, and a second folder."""
    put_two(tmp_path / "p")
    (tmp_path / "p" / "a.enhanced.txt").write_text("a red circle on white\na big circle")
    (tmp_path / "p" / "b.enhanced.txt").write_text("two small blue squares side by side")
    put(tmp_path / "r" / "c.png", "a green star", seed=3)
    return tmp_path


def experiment(
    root: Path, data: dict[str, object] | None = None, method: MethodConfig | None = None,
    **folder: object,
) -> Experiment:  # fmt: skip
    """Of a method that reads the folder's context, unless another one is given."""
    cfg = FolderConfig(path=str(root / "p"), size=64, trigger="sks", **folder)  # type: ignore[arg-type]
    return Experiment(
        method=method or (SFTConfig() if cfg.context == "none" else DOPSDConfig()),
        data=DataConfig(
            source="folder", folder=cfg, cache=str(root / "cache"), batch_size=4,
            samples=TeacherSamples(prompts=4, steps=1, guidance=1.0), **(data or {}),  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def made(experiment: Experiment, family: ZImage) -> Data:
    folders = find_folders(experiment, family)
    return data_of(experiment, family, family, Shapes(), folders)


def pixels(root: Path, name: str) -> Pixels:
    image = read_picture(root / "p" / name, "white")
    return filling(image, fit(image.height, image.width, buckets(64, 8))).unsqueeze(0)


def assert_equal(found: Cond, expected: Cond) -> None:
    for a, b in zip(found.tokens, expected.tokens, strict=True):
        assert torch.equal(a, b)


CAPTIONS = {
    "a.png": ("sks, a red circle", "a sks circle"),
    "b.png": ("sks, two blue squares",),
}
FULLER = {
    "a.png": ("sks, a red circle on white", "sks, a big circle"),
    "b.png": ("sks, two small blue squares side by side",),
}


@pytest.mark.parametrize("context", ["none", "picture", "prompt"])
def test_batches_are_the_models_own_reading(root: Path, family: ZImage, context: str) -> None:
    data = made(experiment(root, context=context), family)
    files = {row["content"]: row["file"] for row in data.report["folder"]["rows"]}
    seen: set[tuple[str, int]] = set()
    for step in range(6):
        for batch in data.batches(step):
            for i, name in enumerate(batch.ids):
                file = files[name.split("@")[0]]
                picture, row = pixels(root, file), batch.cond[[i]]
                assert torch.equal(batch.x0[i : i + 1], family.encode_image(picture))
                texts = CAPTIONS[file]
                [j] = [
                    j for j, text in enumerate(texts)
                    if torch.equal(family.encode_text([text]).tokens[0], row.tokens[0])
                ]  # fmt: skip
                seen.add((file, j))
                if context == "none":
                    assert batch.context is None
                    continue
                assert batch.context is not None
                expected = (
                    family.encode_text([texts[j]], picture)
                    if context == "picture"
                    else family.encode_text([FULLER[file][j]])
                )
                assert_equal(batch.context[[i]], expected)
    assert seen == {("a.png", 0), ("a.png", 1), ("b.png", 0)}


class Counting(ZImage):
    """Counts what is read."""

    def __init__(self, family: ZImage) -> None:
        super().__init__(family.pipeline, family.pictures)
        self.read: list[str] = []

    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        self.read += [f"{'beside: ' if images is not None else ''}{p}" for p in prompts]
        return super().encode_text(prompts, images)

    def encode_image(self, images: Pixels) -> Latent:
        self.read.append("latent")
        return super().encode_image(images)


def test_only_what_changed_is_read_anew(root: Path, family: ZImage) -> None:
    wanted = experiment(root, context="picture")

    def read(model: ZImage = family) -> list[str]:
        counting = Counting(model)
        made(wanted, counting)
        return sorted(counting.read)

    captions = [text for texts in CAPTIONS.values() for text in texts]
    assert read() == sorted([*captions, *(f"beside: {c}" for c in captions), "latent", "latent"])
    assert read() == []
    (root / "p" / "b.txt").write_text("three sks")
    assert read() == ["beside: three sks", "three sks"]
    put(root / "p" / "b.png", None, width=200, height=100, seed=9)
    assert read() == ["beside: three sks", "latent"]
    with Image.open(root / "p" / "b.png") as image:  # the same numbers, which mean other colours
        image.copy().save(root / "p" / "b.png", icc_profile=rgb_profile(P3, srgb_curve()))
    assert read() == ["beside: three sks", "latent"]
    (root / "p" / "a.png").rename(root / "p" / "z.png")
    (root / "p" / "a.txt").rename(root / "p" / "z.txt")
    assert read() == []
    assert len(read(tiny_zimage(seed=1))) == 8
    assert read() == []


def test_the_key_tells_what_a_run_was_started_on(root: Path, family: ZImage) -> None:
    first = made(experiment(root), family).key

    def changed(**folder: Any) -> list[str]:
        later = made(experiment(root, **folder), family).key
        return [line.partition(":")[0] for line in difference(first, later)]

    assert changed() == []
    assert changed(context="picture") == ["context"]
    assert changed(repeats=2) == ["pictures_hash"]
    (root / "p" / "b.txt").write_text("three blue squares")
    assert changed() == ["captions_hash", "spelling_hash"]
    (root / "p" / "b.txt").write_text("two blue squares")
    put(root / "p" / "b.png", None, width=200, height=100, seed=9)
    assert changed() == ["pictures_hash"]


def test_what_is_encoded_is_told(root: Path, family: ZImage) -> None:
    heard: list[tuple[str, int, int]] = []
    tied = DOPSDConfig(tether_weight=1.0)
    for wanted in (
        experiment(root, {"prior": "prompts"}, tied, context="prompt"),
        experiment(root, {"prior": "folder"}, DreamBoothConfig(), regularisation=str(root / "r")),
        experiment(root, {"prior": "samples"}, DreamBoothConfig()),
    ):
        folders = find_folders(wanted, family)
        data_of(wanted, family, family, Shapes(), folders, lambda *told: heard.append(told))
    pictures = [("encoding pictures", 1, 2), ("encoding pictures", 2, 2)]
    assert heard == [
        *pictures, ("encoding prompts of the prior", 4, 4),
        *pictures, ("encoding pictures of the prior", 1, 1),
        *pictures, ("teacher samples of the prior", 0, 4), ("teacher samples of the prior", 4, 4),
    ]  # fmt: skip


def prior_of(data: Data) -> Batch:
    """What all micro-batches of a step have beside them, one after the other."""
    parts = [batch.prior for batch in data.batches(0) if batch.prior is not None]
    return Batch(
        ids=tuple(name for part in parts for name in part.ids),
        x0=torch.cat([part.x0 for part in parts]), cond=Cond.cat([part.cond for part in parts]),
    )  # fmt: skip


def test_priors(root: Path, family: ZImage) -> None:
    bare = made(experiment(root, context="prompt"), family)
    # prompts of the world, without pictures, at the square size
    tied = DOPSDConfig(tether_weight=1.0)
    wanted = experiment(root, {"prior": "prompts", "prior_size": 3}, tied, context="prompt")
    data = made(wanted, family)
    prior, prompts = prior_of(data), Shapes().prompts("train", 4)
    assert len(data.batches(0)) == 2  # the pictures have two sizes
    assert torch.equal(prior.x0, torch.zeros(3, 8, 16, 16))
    encoded = family.encode_text(prompts).tokens
    for tokens in prior.cond.tokens:
        assert any(torch.equal(tokens, own) for own in encoded)
    assert [b.ids for b in data.batches(1)] == [b.ids for b in bare.batches(1)]
    added = {k for k in data.key if k not in bare.key}
    assert "prior_size" in added and "prior prompts_hash" in added
    # with several micro-batches it was of each, so that runs of then are told apart
    for micro_batch, name in ((4, "prior_size"), (2, "prior_size of a step")):
        split = replace(wanted, data=replace(wanted.data, micro_batch=micro_batch))
        assert {"prior_size", "prior_size of a step"} & made(split, family).key.keys() == {name}
    # samples of the model itself: one Euler step from noise is x - v
    data = made(experiment(root, {"prior": "samples", "prior_size": 2}, DreamBoothConfig()), family)
    assert prior_of(data).x0.shape == (2, 8, 16, 16) and prior_of(data).x0.abs().max() > 0
    assert data.key["prior model"] == family.fingerprint()
    # the second folder, without the trigger
    second = str(root / "r")
    wanted = experiment(root, {"prior": "folder"}, DreamBoothConfig(), regularisation=second)
    data = made(wanted, family)
    assert_equal(prior_of(data).cond, family.encode_text(["a green star"]))
    assert set(data.report) == {"folder", "regularisation"}


def test_what_is_impossible_is_one_sentence(root: Path, family: ZImage) -> None:
    blind = ZImage(family.pipeline, None)
    with pytest.raises(UserError, match="has no picture encoder; set it to prompt or none"):
        find_folders(experiment(root, context="picture"), blind)
    odd = experiment(root)
    assert family.unit == 8
    odd = replace(odd, data=replace(odd.data, folder=replace(odd.data.folder, size=60)))
    with pytest.raises(UserError, match=r"data.folder.size must be a positive multiple of 8, got"):
        find_folders(odd, family)
    for values, told in (
        ({"source": "folder"}, "data.source is folder: set data.folder.path"),
        ({"prior": "folder"}, "data.prior is folder: set data.folder.regularisation"),
        ({"prior_size": 0}, "data.prior_size must be >= 1, got 0"),
        ({"folder": FolderConfig(regularisation="r")}, "is read where data.prior is folder"),
    ):
        with pytest.raises(ValueError, match=told):
            DataConfig(**values)  # type: ignore[arg-type]
