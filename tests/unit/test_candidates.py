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
from fewstep.experiment.candidates import Asked, Loader, Means, candidate, parse

PROMPTS = ("a red circle", "a blue square on a white background")


@pytest.mark.parametrize(
    ("text", "source", "steps", "w", "title"),
    [
        ("shapes", "shapes", 4, 1.5, "shapes, 4 steps, w = 1.5"),
        ("shapes@1", "shapes", 1, 1.0, "shapes, 1 step"),
        ("shapes@20,w=2", "shapes", 20, 2.0, "shapes, 20 steps, w = 2"),
        ("org/model@8,w=3.5", "org/model", 8, 3.5, "model, 8 steps, w = 3.5"),
        ("me@home/model", "me@home/model", 4, 1.5, "model, 4 steps, w = 1.5"),
    ],
)
def test_models_are_read(text: str, source: str, steps: int, w: float, title: str) -> None:
    asked = parse(text, 4, 1.5)
    assert (asked.source, asked.steps, asked.guidance, asked.title) == (source, steps, w, title)


def test_steps_start_at_one() -> None:
    with pytest.raises(UserError, match="'shapes@0' asks for 0 steps; give at least 1"):
        parse("shapes@0", 4, 1.0)


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


def test_a_folder_of_pictures_is_taken_as_it_is(tmp_path: Path) -> None:
    record = {"prompts": list(PROMPTS), "seeds": [3]}
    (tmp_path / "samples.json").write_text(json.dumps(record))
    for row in range(2):
        Image.fromarray(np.full((8, 8, 3), 100 * row, np.uint8)).save(
            tmp_path / f"{row:04d}_seed3.png"
        )
    asked = parse(str(tmp_path), 4, 1.0)
    assert asked.is_pictures and asked.title == tmp_path.name
    found = drawn(asked, tmp_path / "unused")
    assert found.spec is found.cost is None and not (tmp_path / "unused").exists()
    assert found.pictures.read(1, 2).mean().item() == pytest.approx(100 / 255)
