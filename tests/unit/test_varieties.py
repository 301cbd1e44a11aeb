"""Variety without training in a suite: pictures, their names, folders and cost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import tiny_zimage
from tests.toy import ToyBackbone
from tests.unit.evaluate.test_generate import ToyFamily
from tests.unit.test_candidates import PROMPTS, drawn, means, pictures
from torch import Tensor
from torch.testing import assert_close

from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec, generate, names
from fewstep.experiment.candidates import Asked, Loader, candidate, facts_of, folder_name, parse
from fewstep.experiment.varieties import fitted
from fewstep.families.base import Cond
from fewstep.families.damping import DampedZImage
from fewstep.flow import sample
from fewstep.flow.guidance import cfg
from fewstep.flow.variety import (
    ConditionNoise,
    Damped,
    FirstStepBy,
    ScaledNoise,
    Variety,
    noised_condition,
)
from fewstep.rng import Rng

GRID = (1.0, 0.9, 0.75, 0.5, 0.0)
TEACHER = FirstStepBy(model="teacher", guidance=2.0)
NOISE = ConditionNoise(strength=0.5)
VARIETIES: list[Variety] = [TEACHER, NOISE, ScaledNoise(scale=1.1)]


def spec(variety: Variety | None, guidance: float = 1.0) -> GenerationSpec:
    return GenerationSpec(
        model="toy", fingerprint="f", prompts=("one", "two words", "three of them"), seeds=(0, 1),
        sigmas=GRID, guidance=guidance, variety=variety,
    )  # fmt: skip


FAMILY: Any = ToyFamily()
OTHER = ToyBackbone(seed=5)


def images(variety: Variety | None, batch: int = 6, guidance: float = 1.0) -> Tensor:
    first = OTHER if isinstance(variety, FirstStepBy) else None
    asked = spec(variety, guidance)
    return generate(FAMILY, FAMILY.backbone, asked, batch_size=batch, first=first)


@pytest.mark.parametrize("variety", VARIETIES)
def test_pictures_do_not_depend_on_their_batch(variety: Variety) -> None:
    state = torch.random.get_rng_state()
    together = images(variety)
    for batch in (1, 4):
        assert_close(images(variety, batch), together, atol=1e-6, rtol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (together - images(None)).abs().mean() > 1e-3


def test_damped_pictures_do_not_depend_on_their_batch() -> None:
    family = tiny_zimage()
    asked = replace(spec(Damped(factor=0.2, block=2)), height=64, width=64)
    together = generate(family, family.backbone, asked, batch_size=6)
    assert_close(
        generate(family, family.backbone, asked, batch_size=4), together, atol=1e-4, rtol=0
    )
    plain = generate(family, family.backbone, replace(asked, variety=None))
    assert (together - plain).abs().mean() > 1e-3
    # the very backbone, by hand
    damped = DampedZImage(family.backbone, factor=0.2, block=2, above=0.92)
    same = generate(family, damped, replace(asked, variety=None), batch_size=6)
    assert torch.equal(same, together)


@torch.no_grad()
def by_hand(variety: Variety, guidance: float) -> Tensor:
    """Step by step, one picture at a time."""
    found: list[Tensor] = []
    for prompt in spec(None).prompts:
        for seed in (0, 1):
            ids = names([prompt], [seed])
            x = Rng(0, 0, "evaluate", ids).randn(2, 8, 8)
            clean, empty = FAMILY.encode_text([prompt]), FAMILY.encode_text([""])
            if isinstance(variety, ScaledNoise):
                x = variety.scale * x
            for i, (here, there) in enumerate(pairwise(GRID)):
                model, cond, w = FAMILY.backbone, clean, guidance
                if i == 0 and isinstance(variety, FirstStepBy):
                    model, w = OTHER, variety.guidance
                if i == 0 and isinstance(variety, ConditionNoise):
                    rng = Rng(0, 0, "condition", ids)
                    cond = Cond(noised_condition(clean.tokens, rng, 0.5, 0.5))
                level = sample.at(here, x)
                v = cfg(model(x, level, cond), model(x, level, empty), w)
                x = x + (there - here) * v
            found.append(FAMILY.decode(x).clamp(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("variety", VARIETIES)
def test_a_variety_is_what_it_says(variety: Variety, guidance: float) -> None:
    assert_close(images(variety, 6, guidance), by_hand(variety, guidance), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("variety", "guidance", "calls"),
    [
        (None, 1.0, 4), (None, 2.0, 8),
        (FirstStepBy(model="teacher"), 1.0, 4), (TEACHER, 1.0, 5), (TEACHER, 2.0, 8),
        (FirstStepBy(model="teacher"), 2.0, 7),
        (NOISE, 1.0, 4), (NOISE, 2.0, 8), (ScaledNoise(scale=2), 1.0, 4),
    ],
)  # fmt: skip
def test_model_calls_are_those_the_spec_states(
    variety: Variety | None, guidance: float, calls: int
) -> None:
    family: Any = ToyFamily()
    other, asked = ToyBackbone(), spec(variety, guidance)
    first = other if isinstance(variety, FirstStepBy) else None
    generate(family, family.backbone, asked, batch_size=6, first=first)
    assert family.backbone.forwards + other.forwards == calls == asked.calls
    assert asked.to_json()["model_calls"] == calls


def test_the_model_of_the_first_step_and_its_spec_come_together() -> None:
    for variety, first in ((TEACHER, None), (None, ToyBackbone()), (NOISE, ToyBackbone())):
        with pytest.raises(ValueError, match="first is for a spec with FirstStepBy, which needs"):
            generate(FAMILY, FAMILY.backbone, spec(variety), first=first)
    with pytest.raises(ValueError, match="first step by another model needs at least 2 steps"):
        replace(spec(TEACHER), sigmas=(1.0, 0.0))


def test_records_without_variety_are_as_they_were() -> None:
    assert "variety" not in spec(None).to_json()
    assert spec(NOISE).to_json()["variety"] == {
        "name": "prompt-noise", "strength": 0.5, "share": 0.5, "above": 0.92,
    }  # fmt: skip


def shapes(variety: Variety | None) -> Asked:
    return replace(parse("shapes@2", 4, 1.0), variety=variety)


def test_every_parameter_decides_the_name_and_the_folder(tmp_path: Path) -> None:
    some: list[Variety | None] = [
        None, TEACHER, replace(TEACHER, guidance=3.0), NOISE, replace(NOISE, strength=0.6),
        replace(NOISE, share=0.6), replace(NOISE, above=0.5), Damped(factor=0.3),
        Damped(factor=0.3, block=2), Damped(factor=0.3, above=0.5), ScaledNoise(scale=1.1),
    ]  # fmt: skip
    rows = [shapes(variety) for variety in some]
    assert len({row.title for row in rows}) == len(rows)
    assert rows[1].title == "shapes, 2 steps, first step by teacher with w = 2"
    same_title = replace(TEACHER, fingerprint="other weights")
    own = means(tmp_path)
    folders = {
        folder_name(shapes(variety), spec(variety), facts_of(shapes(variety), own))
        for variety in [*some, same_title]
    }
    assert len(folders) == len(rows) + 1


def test_an_adapter_does_not_hide_how_the_first_step_was_computed(tmp_path: Path) -> None:
    adapter = tmp_path / "a.safetensors"
    adapter.write_bytes(b"one")
    asked, own = replace(shapes(TEACHER), adapter=adapter), means(tmp_path)
    facts = facts_of(asked, own)
    assert (facts["engine"], facts["first_engine"], facts["batch"]) == ("plain", "fused", 32)
    assert "batch" not in facts_of(asked, replace(own, engine="plain"))
    assert "first_engine" not in facts_of(replace(asked, variety=NOISE), own)


def test_rows_are_drawn_beside_each_other_with_their_cost(tmp_path: Path) -> None:
    some: list[Variety | None] = [
        None, FirstStepBy(model="shapes", guidance=2.0), ConditionNoise(strength=10.0),
        Damped(factor=0.2), ScaledNoise(scale=1.2),
    ]  # fmt: skip
    rows: list[Any] = [drawn(shapes(variety), tmp_path) for variety in some]
    assert len(list(tmp_path.iterdir())) == len(rows)
    assert [row.cost.model_calls for row in rows] == [8, 12, 8, 8, 8]
    first = rows[1].spec.variety
    assert isinstance(first, FirstStepBy) and first.fingerprint == rows[0].spec.fingerprint
    drawings = [row.pictures.read(0, 2) for row in rows]
    for i, a in enumerate(drawings):
        for b in drawings[:i]:
            assert (a - b).abs().mean() > 1 / 255
    again: Any = drawn(shapes(some[1]), tmp_path)
    assert again.cost.images == 0 and torch.equal(again.pictures.read(0, 2), drawings[1])


def test_the_first_step_by_the_very_model_changes_nothing(tmp_path: Path) -> None:
    plain, own = (drawn(shapes(v), tmp_path) for v in (None, FirstStepBy(model="shapes")))
    assert torch.equal(plain.pictures.read(0, 2), own.pictures.read(0, 2))


@pytest.mark.parametrize(
    ("model", "message"),
    [("shapes@8", "first=shapes@8 names steps, but it makes one of shapes, 2 steps, first step by"),
     ("mine", "first=.*mine names a folder of pictures; name a model")],
)  # fmt: skip
def test_what_makes_no_first_step_is_refused_before_anything_is_drawn(
    model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "mine")
    own = means(tmp_path / "out")
    with pytest.raises(UserError, match=message):
        candidate(shapes(FirstStepBy(model=model)), PROMPTS, (0,), Loader(own), own)


def test_a_variety_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damping names block 6, but the model has blocks 0 to 5"):
        drawn(shapes(Damped(factor=0.3, block=6)), tmp_path)
    assert not list(tmp_path.iterdir())
    family, other = tiny_zimage(), tiny_zimage()
    other.backbone.cond_width += 1
    with pytest.raises(ValueError, match="teacher cannot make the first step: widths of condition"):
        fitted(TEACHER, family, other)
    one = replace(shapes(TEACHER), steps=1)
    with pytest.raises(UserError, match="needs at least 2 steps, got 1"):
        drawn(replace(one, variety=FirstStepBy(model="shapes")), tmp_path)
