"""The key of teacher samples tells how prompts and pictures were read, and by what engine."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import tiny_pictures, tiny_zimage

from fewstep.data.cache import difference
from fewstep.data.teacher import TeacherSamples, key_of
from fewstep.experiment.config import DataConfig, Experiment, Optims
from fewstep.experiment.samples import facts
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import FusedZImage
from fewstep.methods.ladd import LADDConfig
from fewstep.train.optim import OptimConfig
from fewstep.worlds.shapes.scene import WorldConfig
from fewstep.worlds.shapes.world import Shapes

SEEN = Experiment(
    optim=Optims(heads=OptimConfig()),
    method=LADDConfig(layers=(1,)),
    data=DataConfig(samples=TeacherSamples(prompts=8, picture_share=0.5)),
)
UNSEEN = replace(SEEN, data=replace(SEEN.data, samples=TeacherSamples(prompts=8)))
PROMPTS = Shapes().prompts("train", 8)


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def key(experiment: Experiment, family: ZImage, world: Shapes | None = None) -> dict[str, Any]:
    world = world or Shapes()
    own = facts(experiment, family, world, PROMPTS)
    return dict(key_of(experiment.data.samples, family, PROMPTS, world.in_context, own))


def changed(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [line.partition(":")[0] for line in difference(a, b)]


def test_facts_are_readable(family: ZImage) -> None:
    found = facts(SEEN, family, Shapes(), PROMPTS)
    assert found["engine"] == "plain" and found["dtype"] == "float32"
    assert "user PROMPT" in found["chat"] and found["world"] == "shapes"
    assert found["picture_pixels"] == [66 * 66, 66 * 66]


def test_trap35_engine_and_dtype(family: ZImage) -> None:
    fused = copy.copy(family)
    fused.backbone = FusedZImage(family.pipeline.transformer, torch.bfloat16, compiled=False)
    other = replace(SEEN, engine="fused", dtype="bfloat16")
    lines = difference(key(SEEN, family), key(other, fused))
    assert lines == [
        "batch: 'nothing' there, 32 here",
        "dtype: 'float32' there, 'bfloat16' here",
        "engine: 'plain' there, 'fused, bfloat16 products' here",
    ]


def test_trap35_reading_of_prompts_and_pictures(family: ZImage, tmp_path: Path) -> None:
    before = key(SEEN, family)
    pictures, tokenizer = tiny_pictures(family), family.pipeline.tokenizer

    other = copy.copy(family)
    other.pictures = copy.copy(pictures)
    other.pictures.pixels = (88 * 88, 88 * 88)
    assert changed(before, key(SEEN, other)) == ["picture_pixels"]
    assert changed(key(UNSEEN, family), key(UNSEEN, other)) == []

    other = copy.copy(family)
    other.pipeline = copy.copy(family.pipeline)
    for edit, expected in (
        (lambda t: setattr(t, "chat_template", t.chat_template + "picture"), ["chat", "tokens"]),
        (lambda t: t.add_tokens([" ".join(PROMPTS[0].split()[:2])]), ["tokens"]),
        (lambda t: t.add_tokens(["zebra"]), []),
    ):
        other.pipeline.tokenizer = copy.deepcopy(tokenizer)
        edit(other.pipeline.tokenizer)
        assert changed(before, key(SEEN, other)) == expected


def test_trap35_world_matters_where_its_pictures_are_seen(family: ZImage) -> None:
    hard = Shapes(WorldConfig(radius=(0.05, 0.1)))
    assert changed(key(SEEN, family), key(SEEN, family, hard)) == ["pictures"]
    assert changed(key(UNSEEN, family), key(UNSEEN, family, hard)) == []
