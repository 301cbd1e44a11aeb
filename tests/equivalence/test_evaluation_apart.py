"""Evaluation between two training steps changes nothing of the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.games import Game, assert_same, new_run
from tests.squares import Squares
from tests.unit.evaluate.test_generate import ToyFamily

from fewstep.evaluate.gallery import draw_gallery, open_gallery, true_pictures
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.judge import Candidate, Drawn, judge
from fewstep.evaluate.measures import Instruments
from fewstep.families.base import Backbone
from fewstep.train import loop

WORLD = Squares()
PROMPTS = tuple(WORLD.prompts("test", 8))


@pytest.mark.fault(20)
def test_training_does_not_know_that_it_was_evaluated(tmp_path: Path) -> None:
    alone, watched = Game(), Game()
    with new_run(tmp_path / "a") as run:
        alone.train(run)
    seen: list[float] = []

    def evaluate(step: int) -> None:
        family = ToyFamily()
        backbone = watched.method.student
        assert isinstance(backbone, Backbone)
        family.backbone = backbone
        spec = GenerationSpec(
            model="student", fingerprint=str(step), prompts=PROMPTS, seeds=(0, 1),
            sigmas=(1.0, 0.5, 0.0), sampler="renoise", height=128, width=128,
        )  # fmt: skip
        folder = tmp_path / f"pictures_{step}"
        draw_gallery(folder, family, spec, {})
        student = Candidate(
            name="student", role="student", total=16,
            draw=lambda told: Drawn(pictures=open_gallery(folder), spec=spec),
        )  # fmt: skip
        instruments = Instruments(features={"shapes": WORLD.features})
        found = judge([student], true_pictures(WORLD, PROMPTS, (0, 1)), WORLD, instruments)
        seen.append(found.metrics("student")["kid"].value)

    with new_run(tmp_path / "b") as run:
        loop.train(
            watched.method, watched.batches, watched.loop, run, watched.optims,
            [loop.every(3, evaluate)], seed=0,
        )  # fmt: skip
    assert len(set(seen)) == 4  # the student moved, and each time was looked at
    assert_same(alone.state(), watched.state())
    assert torch.is_grad_enabled()
