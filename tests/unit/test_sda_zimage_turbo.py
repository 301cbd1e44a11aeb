"""The recipe for the published 6B models, on their shapes and Turbo's own grid, without weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tests.contract.test_adapter_layout import PUBLISHED
from tests.tiny import tiny_zimage

from fewstep.errors import UserError
from fewstep.experiment.builder import check_levels, prepare
from fewstep.experiment.config import Experiment
from fewstep.experiment.outline import outline
from fewstep.methods.sda import SDA, SDAConfig
from fewstep.nets.adapters import adapter_state, adapters_of
from fewstep.recipes.sda import sda_zimage_turbo

EXPERIMENT = sda_zimage_turbo()


def method() -> SDAConfig:
    assert isinstance(EXPERIMENT.method, SDAConfig)
    return EXPERIMENT.method


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the published transformer's config, and Turbo's scheduler."""
    path, family = tmp_path_factory.mktemp("full"), tiny_zimage()
    family.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    family.save(path, family.backbone, "euler")
    config = path / "transformer" / "config.json"
    tiny = json.loads(config.read_text())
    rest = {key: value for key, value in tiny.items() if not key.startswith("axes_")}
    config.write_text(json.dumps(rest | PUBLISHED))
    return path


def with_prompts(folder: Path, n: int = 1000) -> Experiment:
    path = folder / "prompts.txt"
    path.write_text("".join(f"a picture of {i} apples\n" for i in range(n)))
    return replace(EXPERIMENT, data=replace(EXPERIMENT.data, prompts_file=str(path)))


def test_the_levels_are_those_that_turbos_pipeline_visits(full: Path) -> None:
    family, pipeline = outline(full), cast(Any, tiny_zimage().pipeline)
    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipeline.scheduler = scheduler
    pipeline("a", height=64, width=64, num_inference_steps=8, output_type="latent")
    visited = [float(s) for s in scheduler.sigmas]
    assert [*method().student_sigmas, 0.0] == pytest.approx(visited, abs=1e-6)
    assert EXPERIMENT.sampling.steps == 8 and EXPERIMENT.sampling.sampler == family.sampler
    check_levels(method().student_sigmas, family.sigmas(8))
    family.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    with pytest.raises(ValueError, match=r"but a sampler of 8 steps on this model's grid visits"):
        check_levels(method().student_sigmas, family.sigmas(8))


def test_the_card_is_followed_where_it_speaks() -> None:
    cfg = method()
    assert (cfg.pool, cfg.gate, cfg.noises, cfg.anchor_delta) == (8, 1, 2, 0.08)
    assert not cfg.is_open(7) and cfg.is_open(6)
    assert EXPERIMENT.optim.student.weight_decay == 1e-3
    assert EXPERIMENT.loop.steps == 2500
    assert (cfg.distance, cfg.states, EXPERIMENT.data.source) == ("cosine", "own", "prompts")


def test_its_adapter_at_full_size(full: Path, tmp_path: Path) -> None:
    family, teacher = outline(full), outline(full)
    meta = torch.device("meta")
    found, optims = prepare(with_prompts(tmp_path), family, teacher, None, meta)
    assert isinstance(found, SDA)
    assert len(adapters_of(found.student)) == 240
    assert sum(value.numel() for value in adapter_state(found.student).values()) == 84_802_560
    trained = [p for p in found.student.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 84_802_560
    assert optims.keys() == {"student"}
    assert not any(p.requires_grad for p in (*found.base.parameters(), *found.teacher.parameters()))


def test_a_file_of_too_few_prompts_is_named(full: Path, tmp_path: Path) -> None:
    family = outline(full)
    with pytest.raises(UserError, match="has 999 different prompts, but 1000 are asked for"):
        prepare(with_prompts(tmp_path, 999), family, family, None, torch.device("meta"))
