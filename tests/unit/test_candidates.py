"""From words on the command line to what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec
from fewstep.experiment.candidates import (
    Asked,
    Loader,
    Means,
    apart,
    candidate,
    facts_of,
    folder_name,
    parse,
)
from fewstep.flow.variety import Damped, FirstStepBy


def test_a_variety_is_read_after_the_steps() -> None:
    assert parse("shapes@4+damp=0.3,block=2", 4, 1.0).variety == Damped(factor=0.3, block=2)
    first = parse("me/student@4+first=me/teacher@home,w=2", 4, 1.0)
    assert first.variety == FirstStepBy(model="me/teacher@home", guidance=2)
    assert (first.source, first.steps, first.guidance) == ("me/student", 4, 1.0)
    assert parse("shapes@4", 4, 1.0).variety is None
    with pytest.raises(UserError, match="no way to more variety; did you mean 'damp'"):
        parse("shapes@4+dump=0.3", 4, 1.0)


PROMPTS = ("a red circle", "a blue square on a white background")


@pytest.mark.parametrize(
    ("text", "source", "steps", "w", "title"),
    [
        ("shapes", "shapes", 4, 1.5, "shapes, 4 steps, w = 1.5"),
        ("shapes@1", "shapes", 1, 1.0, "shapes, 1 step"),
        ("shapes@20,w=2", "shapes", 20, 2.0, "shapes, 20 steps, w = 2"),
        ("org/model@8,w=3.5", "org/model", 8, 3.5, "model, 8 steps, w = 3.5"),
        ("me@home/model", "me@home/model", 4, 1.5, "model, 4 steps, w = 1.5"),
        ("a+b/c@4", "a+b/c", 4, 1.0, "c, 4 steps"),
        ("shapes@4,w=2+noise=1.1", "shapes", 4, 2.0, "shapes, 4 steps, w = 2, noise times 1.1"),
    ],
)
def test_models_are_read(text: str, source: str, steps: int, w: float, title: str) -> None:
    asked = parse(text, 4, 1.5)
    assert (asked.source, asked.steps, asked.guidance, asked.title) == (source, steps, w, title)


def test_steps_start_at_one() -> None:
    with pytest.raises(UserError, match="'shapes@0' asks for 0 steps; give at least 1"):
        parse("shapes@0", 4, 1.0)


@pytest.mark.parametrize("text", ["shapes@4w=2", "shapes@", "org/model@x", "shapes@4,w=-1", ""])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"a model reads MODEL, .*\+VARIETY .*, got"):
        parse(text, 4, 1.0)


def test_models_of_one_name_are_called_after_their_paths() -> None:
    texts = ("a/model", "b/model@8", "b/model@2", "org/other", "shapes")
    names = [model.title for model in apart([parse(text, 4, 1.0) for text in texts])]
    assert names == [
        "a/model, 4 steps", "b/model, 8 steps", "b/model, 2 steps", "other, 4 steps",
        "shapes, 4 steps",
    ]  # fmt: skip


def test_a_folder_here_has_a_name_and_does_not_hide_the_packaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "shapes")
    for text in ("shapes", "shapes@8"):
        asked = parse(text, 4, 1.0)
        assert (asked.source, asked.is_pictures) == ("shapes", False)
    assert parse("./shapes", 4, 1.0).is_pictures
    monkeypatch.chdir(tmp_path / "shapes")
    assert parse(".", 4, 1.0).title == "shapes"


def test_pictures_have_their_steps_already(tmp_path: Path) -> None:
    pictures(tmp_path / "mine")
    with pytest.raises(UserError, match=r"drawn already, but .*mine@8,w=3' names steps; leave"):
        parse(f"{tmp_path / 'mine'}@8,w=3", 4, 1.0)


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    run = tmp_path / "a@4"
    run.mkdir()
    (run / "config.yaml").write_text("")
    with pytest.raises(UserError, match="has no model yet"):
        parse(str(run), 8, 1.0)
    (run / "model").mkdir()
    asked = parse(str(run), 8, 1.0)
    assert (asked.source, asked.name, asked.steps) == (str(run / "model"), "a@4", 8)
    assert parse(f"{run}@2", 8, 1.0).steps == 2


def test_strength_stands_in_the_title() -> None:
    asked = replace(parse("shapes", 4, 1.0), adapter=Path("a.safetensors"), strength=0.25)
    assert asked.title == "shapes, 4 steps, strength 0.25"


def means(folder: Path) -> Means:
    return Means(folder=folder, device=torch.device("cpu"), engine="fused")


def test_whatever_decides_pictures_decides_their_folder(tmp_path: Path) -> None:
    adapter = tmp_path / "a.safetensors"
    adapter.write_bytes(b"one")
    asked = replace(parse("shapes", 4, 1.0), adapter=adapter, strength=0.5)
    plain = Means(folder=tmp_path, device=torch.device("cpu"))
    spec = GenerationSpec(
        model="shapes", fingerprint="f", prompts=PROMPTS, seeds=(0, 1), sigmas=(1.0, 0.0)
    )

    def name(asked: Asked = asked, means: Means = plain, spec: GenerationSpec = spec) -> str:
        return folder_name(asked, spec, facts_of(asked, means))

    bare = replace(asked, adapter=None)
    fused = replace(plain, engine="fused")
    names = [
        name(), name(replace(asked, strength=0.5000001)), name(bare),
        name(means=replace(plain, dtype="bfloat16")),
        name(bare, fused), name(bare, replace(fused, batch=8)),
        name(spec=replace(spec, seeds=(0, 2))), name(spec=replace(spec, fingerprint="g")),
    ]  # fmt: skip
    adapter.write_bytes(b"two")
    names.append(name())
    assert len(set(names)) == len(names)
    # an adapter is drawn by the plain engine; float32 by it does not feel the batch
    assert name() == name(means=fused) == name(means=replace(plain, batch=8))
    assert name() == name(spec=replace(spec, model="of another name"))


def drawn(asked: Asked, folder: Path):
    own = means(folder)
    return candidate(asked, PROMPTS, (0, 1), Loader(own), own).draw(lambda *_: None)


def test_models_share_the_noise_of_a_seed_and_not_their_folder(tmp_path: Path) -> None:
    one, two = (drawn(parse(f"shapes@{n}", 4, 1.0), tmp_path) for n in (1, 2))
    assert one.spec.seeds == two.spec.seeds and len(list(tmp_path.iterdir())) == 2
    assert (one.cost.images, one.cost.model_calls, two.cost.model_calls) == (4, 4, 8)
    # the first pictures of a seed are alike in layout: more alike than those of two seeds
    a, b = one.pictures.read(0, 2), two.pictures.read(0, 2)
    same, other = (a - b).square().mean(), (a - b.roll(1, 0)).square().mean()
    assert same < other / 2
    again = drawn(parse("shapes@2", 4, 1.0), tmp_path)
    assert again.cost.images == 0 and torch.equal(again.pictures.read(0, 2), b)


def pictures(folder: Path, prompts: tuple[str, ...] = PROMPTS) -> None:
    """A grey picture of each prompt for seed 3."""
    folder.mkdir(exist_ok=True)
    record = {"prompts": list(prompts), "seeds": [3]}
    (folder / "samples.json").write_text(json.dumps(record))
    for row in range(len(prompts)):
        grey = np.full((8, 8, 3), 100 * row % 256, np.uint8)
        Image.fromarray(grey).save(folder / f"{row:04d}_seed3.png")


def test_pictures_of_other_prompts_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    pictures(tmp_path / "mine", PROMPTS[::-1])
    asked, own = parse(str(tmp_path / "mine"), 4, 1.0), means(tmp_path / "out")
    with pytest.raises(UserError, match="the pictures of mine and the reference have other prompt"):
        candidate(asked, PROMPTS, (0, 1), Loader(own), own)


def test_a_folder_of_pictures_is_taken_as_it_is(tmp_path: Path) -> None:
    pictures(tmp_path)
    asked = parse(str(tmp_path), 4, 1.0)
    assert asked.is_pictures and asked.title == tmp_path.name
    found = drawn(asked, tmp_path / "unused")
    assert found.spec is found.cost is None and not (tmp_path / "unused").exists()
    assert found.pictures.read(1, 2).mean().item() == pytest.approx(100 / 255)
