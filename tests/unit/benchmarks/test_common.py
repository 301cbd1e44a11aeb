"""Kept measurements, prompts without a word, and small pieces of the tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import common, pages
from benchmarks import concepts as concepts_of
from benchmarks.teacher_table import Cell, best

from fewstep.evaluate.measures import Instruments, in_memory, measure
from fewstep.evaluate.statistics import Estimate
from fewstep.worlds.shapes.world import Shapes

WORLD = Shapes()
PROMPTS = tuple(WORLD.prompts("test", 8))
SEEDS = (0, 1)


def pictures() -> torch.Tensor:
    return WORLD.truth([p for p in PROMPTS for _ in SEEDS], SEEDS * len(PROMPTS))


def test_measurements_are_kept_by_key_and_read_back_whole(tmp_path: Path) -> None:
    calls: list[int] = []

    def draw() -> torch.Tensor:
        calls.append(1)
        return pictures()

    first = common.seen(tmp_path, {"a": 1}, draw, PROMPTS, SEEDS, WORLD)
    again = common.seen(tmp_path, {"a": 1}, draw, PROMPTS, SEEDS, WORLD)
    assert len(calls) == 1
    common.seen(tmp_path, {"a": 2}, draw, PROMPTS, SEEDS, WORLD)
    assert len(calls) == 2
    instruments = Instruments(features={"shapes": WORLD.features})
    direct = measure(in_memory(pictures(), PROMPTS, SEEDS), WORLD, instruments)
    for found in (first.measures, again.measures):
        assert found.adherence.keys() == direct.adherence.keys()
        assert next(iter(found.adherence)) == "all"
        for part, right in direct.adherence.items():
            assert np.array_equal(found.adherence[part], right, equal_nan=part != "all")
        for kind in ("features", "pictures", "spreads", "categories"):
            own, wanted = getattr(found, kind), getattr(direct, kind)
            assert own.keys() == wanted.keys() and own
            for name, values in wanted.items():
                assert np.array_equal(own[name], values, equal_nan=True)
    assert 0 <= first.saturated == again.saturated < 0.2


def test_another_way_of_drawing_or_judging_is_another_measurement() -> None:
    class Lenient(Shapes):
        def adherence(self, images, prompts):
            found = super().adherence(images, prompts)
            return {part: np.ones_like(right) for part, right in found.items()}

    class Turned(Shapes):
        def truth(self, prompts, seeds):
            return super().truth(prompts, [seed + 1 for seed in seeds])

    worlds = (Shapes(), Lenient(), Turned())
    assert len({common.rules(w) for w in worlds}) == 3
    assert common.rules(Shapes()) == common.rules(WORLD)


def test_saturated_and_broken_pictures(tmp_path: Path) -> None:
    half = torch.full((16, 3, 64, 64), 0.5)
    half[:, :, :16] = 1.0
    assert common.seen(tmp_path, {}, lambda: half, PROMPTS, SEEDS, WORLD).saturated == 0.25
    half[3, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError):
        common.seen(tmp_path, {"b": 1}, lambda: half, PROMPTS, SEEDS, WORLD)


def test_cells_of_a_table() -> None:
    e = Estimate(0.5, 0.25, 0.75, 1, 1)
    assert pages.percent(e) == "50.0 % (25.0 to 75.0)"
    assert pages.shown(Estimate(0.5, math.nan, math.nan, 1, 1)) == "0.5"
    assert pages.shown(Estimate(math.nan, math.nan, math.nan, 1, 1)) == "-"


def test_best_guidance_is_by_adherence_then_kid() -> None:
    def metrics(adherence: float, kid: float) -> dict[str, Estimate]:
        return {k: Estimate(v, v, v, 1, 1) for k, v in (("adherence", adherence), ("kid", kid))}

    found = {
        Cell(20, 1): metrics(0.8, 0.1), Cell(20, 2): metrics(0.9, 0.3),
        Cell(20, 3): metrics(0.9, 0.2), Cell(4, 2): metrics(0.99, 0.0),
    }  # fmt: skip
    assert best(found, 20) == Cell(20, 3)
    assert (Cell(20, 1).calls, Cell(20, 2).calls) == (20, 40)


def test_concepts_judged_on_their_own_true_pictures_and_on_others() -> None:
    concepts = concepts_of.unseen(WORLD, 24)
    references = torch.cat([c.reference for c in concepts])
    true = concepts_of.truth(concepts, WORLD, 2)
    right = concepts_of.verdicts(true, concepts, references, WORLD)
    assert right["prompt"].mean() == 1 and right["success"].mean() > 0.9
    # Pictures of the next concept are wrong, and so is a copy of the reference itself.
    other = concepts_of.verdicts(true.roll(-2, 0), concepts, references, WORLD)
    assert other["success"].mean() < 0.1
    copied = concepts_of.verdicts(references, concepts, references, WORLD)
    assert not copied["moved"].any() and not copied["success"].any()
    assert copied["concept"].mean() > 0.95
    assert np.array_equal(right["success"], right["prompt"] & right["moved"])
    found = concepts_of.summary(right, 24)
    assert found["success"].value == right["success"].mean() and found["success"].n_prompts == 24
    assert {c.form for c in concepts} <= set(concepts_of.FORMS)
    again = concepts_of.unseen(WORLD, 2)
    assert again[1].prompt == concepts[1].prompt and again[1].look == concepts[1].look


def test_equal_prompts_fall_into_different_groups() -> None:
    assert concepts_of.groups(["a", "b", "a", "a", "b", "c"]) == [[0, 1, 5], [2, 4], [3]]
