"""The suite on a small world whose truth is known: one square, its colour and its place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.evaluate import suite
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.statistics import prompt_weights
from fewstep.shapes import Pixels

COLOURS = {"red": 0, "green": 1, "blue": 2}


class Squares:
    """Prompts "red 3": a red square with its left edge near column 3; satisfies `World`."""

    name = "squares"

    def prompts(self, split: str, n: int) -> list[str]:
        return [f"{('red', 'green', 'blue')[i % 3]} {i}" for i in range(n)]

    def truth(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        images = torch.zeros(len(prompts), 3, 16, 16)
        for image, prompt, seed in zip(images, prompts, seeds, strict=True):
            colour, number = prompt.split()
            rng = np.random.default_rng([int(number), seed])
            top, left = rng.integers(0, 11, 2)
            image[COLOURS[colour], top : top + 5, left : left + 5] = 1
        return images

    def adherence(self, images: Pixels, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        painted = images.sum((2, 3)).argmax(1).numpy()
        right = painted == np.array([COLOURS[p.split()[0]] for p in prompts])
        return {"all": right, "colour": right, "count": np.ones(len(images), dtype=bool)}

    def layouts(self, images: Pixels, prompts: Sequence[str]) -> np.ndarray:
        weight = images.amax(1).double().numpy()
        at = np.arange(16) / 16
        total = weight.sum((1, 2))
        x, y = (weight.sum(1) @ at / total, weight.sum(2) @ at / total)
        return np.stack([x, y, np.sqrt(total) / 32], 1)

    def features(self, images: Pixels) -> np.ndarray:
        small = torch.nn.functional.avg_pool2d(images, 4)
        return small.flatten(1).double().numpy()


WORLD = Squares()
PROMPTS = WORLD.prompts("test", 24)
TRUTH = suite.measure_truth(PROMPTS, range(100, 104), WORLD)
WEIGHTS = prompt_weights(24, np.random.default_rng(0), 300)
SEEDS = (0, 1, 2, 3)


def images() -> Pixels:
    return WORLD.truth(*suite.pairs(PROMPTS, SEEDS))


def measured(pixels: Pixels) -> suite.Measures:
    return suite.measure(pixels, PROMPTS, SEEDS, WORLD)


def blurred(pixels: Pixels) -> Pixels:
    return torch.nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1)


def test_the_truth_under_other_seeds_scores_as_the_truth() -> None:
    found = suite.evaluate(measured(images()), TRUTH, WEIGHTS)
    assert found["adherence"].value == 1.0
    assert found["kid"].low < 0 < found["kid"].high
    assert found["layout_diversity"].low < 1 < found["layout_diversity"].high
    assert found["sharpness"].value == pytest.approx(1, abs=0.05)
    assert found["high_frequency"].value == pytest.approx(1, abs=0.15)
    assert (found["kid"].n_prompts, found["kid"].n_seeds) == (24, 4)


def test_each_fault_moves_the_metric_that_is_meant_to_see_it() -> None:
    good = suite.evaluate(measured(images()), TRUTH, WEIGHTS)
    soft = suite.evaluate(measured(blurred(images())), TRUTH, WEIGHTS)
    assert soft["sharpness"].high < 0.7 and soft["high_frequency"].high < 0.5
    copies = images().view(24, 4, 3, 16, 16)[:, :1].expand(-1, 4, -1, -1, -1).flatten(0, 1)
    assert suite.evaluate(measured(copies), TRUTH, WEIGHTS)["layout_diversity"].value == 0
    wrong = images()
    wrong[:24] = wrong[:24].roll(1, dims=1)  # 6 of 24 prompts in another colour
    bad = suite.evaluate(measured(wrong), TRUTH, WEIGHTS)
    assert bad["adherence"].value == bad["adherence_colour"].value == pytest.approx(0.75)
    assert bad["adherence"].low < 0.75 < bad["adherence"].high
    assert bad["adherence_count"].value == 1
    assert suite.evaluate(measured(images() * 0.2), TRUTH, WEIGHTS)["kid"].low > good["kid"].high


def test_comparisons_are_paired_and_of_the_right_sign() -> None:
    start, end, between = measured(images() * 0.3), measured(images()), measured(images() * 0.7)
    assert suite.compare(start, end, TRUTH, WEIGHTS)["kid"].low > 0
    same = suite.compare(end, end, TRUTH, WEIGHTS)
    assert all(d.value == d.low == d.high == 0 for d in same.values())
    share = suite.gap_closed(start, end, between, TRUTH, WEIGHTS)
    assert 0.5 < share.low < share.value < share.high < 1


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="24 prompts x 3 seeds, got 96"):
        suite.measure(images(), PROMPTS, (0, 1, 2), WORLD)
    turned = replace(TRUTH, prompts=TRUTH.prompts[::-1])
    with pytest.raises(ValueError, match="same prompts in the same order"):
        suite.evaluate(measured(images()), turned, WEIGHTS)
    with pytest.raises(ValueError, match="weights are for 5 prompts"):
        suite.evaluate(TRUTH, TRUTH, prompt_weights(5, np.random.default_rng(0)))


def test_evaluation_file_is_plain_json_with_every_spec(tmp_path: Path) -> None:
    spec = GenerationSpec(
        model="m",
        fingerprint="f",
        prompts=tuple(PROMPTS),
        seeds=SEEDS,
        sigmas=(1.0, 0.5, 0.0),
        guidance=2.0,
    )
    metrics = suite.evaluate(TRUTH, TRUTH, WEIGHTS)
    broken = replace(metrics["kid"], low=math.nan, high=math.inf)
    rows = [
        suite.Row(name="truth", role="truth", metrics={"kid": broken}),
        suite.Row(name="teacher, 2 steps", role="teacher_few", metrics=metrics, spec=spec),
    ]
    closed = suite.Comparison(name="gap", metric="kid", estimate=metrics["kid"], goal=0.8)
    path = tmp_path / "evaluation.json"
    suite.write_evaluation(
        path, question="?", world="squares", rows=rows, comparisons=[closed],
        grids={"grids/a.png": "fixed seeds"},
    )  # fmt: skip
    record = json.loads(path.read_text())
    assert record["rows"][0]["spec"] is None and record["rows"][0]["metrics"]["kid"]["low"] is None
    told = record["rows"][1]["spec"]
    assert told["sigmas"] == [1.0, 0.5, 0.0] and told["model_calls"] == 4
    assert told["n_prompts"] == 24 and len(told["prompts_hash"]) == 16
    assert record["comparisons"][0]["goal"] == 0.8
    assert record["grids"] == [{"file": "grids/a.png", "caption": "fixed seeds"}]
