"""Measuring pictures of a small world, and every metric as arithmetic on that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.squares import Squares

from fewstep.evaluate import collapse, fidelity, measures, metrics
from fewstep.evaluate.measures import Instruments, Measures, in_memory, measure
from fewstep.evaluate.statistics import prompt_weights
from fewstep.shapes import Pixels

WORLD = Squares()
PROMPTS = WORLD.prompts("test", 24)
WEIGHTS = prompt_weights(24, np.random.default_rng(0), 300)
SEEDS = (0, 1, 2, 3)


def images(first: int = 0) -> Pixels:
    asked = [prompt for prompt in PROMPTS for _ in SEEDS]
    return WORLD.truth(asked, [first + seed for seed in SEEDS] * len(PROMPTS))


def measured(pixels: Pixels) -> Measures:
    return measure(
        in_memory(pixels, PROMPTS, SEEDS), WORLD, Instruments(features={"shapes": WORLD.features})
    )


TRUTH = measured(images(100))


def blurred(pixels: Pixels) -> Pixels:
    return torch.nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1)


def test_the_truth_under_other_seeds_scores_as_the_truth() -> None:
    found = metrics.evaluate(measured(images()), TRUTH, WEIGHTS)
    assert found["adherence"].value == 1.0
    assert found["kid"].low < 0 < found["kid"].high
    assert found["layout_diversity"].low < 1 < found["layout_diversity"].high
    assert found["sharpness"].value == pytest.approx(1, abs=0.05)
    assert found["high_frequency"].value == pytest.approx(1, abs=0.15)
    assert (found["kid"].n_prompts, found["kid"].n_seeds) == (24, 4)


def test_each_fault_moves_the_metric_that_is_meant_to_see_it() -> None:
    good = metrics.evaluate(measured(images()), TRUTH, WEIGHTS)
    soft = metrics.evaluate(measured(blurred(images())), TRUTH, WEIGHTS)
    assert soft["sharpness"].high < 0.7 and soft["high_frequency"].high < 0.5
    copies = images().view(24, 4, 3, 16, 16)[:, :1].expand(-1, 4, -1, -1, -1).flatten(0, 1)
    assert metrics.evaluate(measured(copies), TRUTH, WEIGHTS)["layout_diversity"].value == 0
    wrong = images()
    wrong[:24] = wrong[:24].roll(1, dims=1)  # 6 of 24 prompts in another colour
    bad = metrics.evaluate(measured(wrong), TRUTH, WEIGHTS)
    assert bad["adherence"].value == bad["adherence_colour"].value == pytest.approx(0.75)
    assert bad["adherence"].low < 0.75 < bad["adherence"].high
    assert bad["adherence_count"].value == 1
    assert metrics.evaluate(measured(images() * 0.2), TRUTH, WEIGHTS)["kid"].low > good["kid"].high


def test_comparisons_are_paired_and_of_the_right_sign() -> None:
    start, end = measured(images() * 0.3), measured(images())
    assert metrics.compare(start, end, TRUTH, WEIGHTS)["kid"].low > 0
    same = metrics.compare(end, end, TRUTH, WEIGHTS)
    assert all(d.value == 0 for d in same.values())
    # all right in both: no resample moves that, so exact bounds tell how sure it is
    values = metrics.evaluate(end, TRUTH, WEIGHTS)
    for key, d in same.items():
        fixed = key.startswith(metrics.SHARES) and values[key].value in (0, 1)
        rest = 1 - 0.025 ** (1 / d.n_prompts) if fixed else 0
        assert (d.low, d.high) == pytest.approx((-rest, rest)), key
    assert (same["adherence"].n_prompts, same["category_red"].n_prompts) == (24, 8)
    assert same["adherence"].high == pytest.approx(0.1425, abs=1e-4)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="24 prompts x 3 seeds, got 96"):
        in_memory(images(), PROMPTS, (0, 1, 2))
    turned = replace(TRUTH, prompts=TRUTH.prompts[::-1])
    with pytest.raises(ValueError, match="same prompts in the same order"):
        metrics.evaluate(measured(images()), turned, WEIGHTS)
    with pytest.raises(ValueError, match="weights are for 5 prompts"):
        metrics.evaluate(TRUTH, TRUTH, prompt_weights(5, np.random.default_rng(0)))


def test_pictures_are_measured_alike_however_many_are_read_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = measured(images())
    monkeypatch.setattr(measures, "AT_ONCE", 9)  # two prompts of four seeds at a time
    parts = measured(images())
    for kind in ("features", "adherence", "pictures", "spreads"):
        own, again = getattr(whole, kind), getattr(parts, kind)
        assert own.keys() == again.keys() and own
        for name, values in own.items():
            np.testing.assert_allclose(again[name], values, rtol=1e-6)


def test_a_category_counts_its_own_prompts() -> None:
    wrong = images()
    wrong[:16] = wrong[:16].roll(1, dims=1)  # prompts 0 to 3, of which 0 and 3 are red
    found = metrics.evaluate(measured(wrong), TRUTH, WEIGHTS)["category_red"]
    assert (found.value, found.n_prompts, found.n_seeds) == (pytest.approx(6 / 8), 8, 4)
    assert found.low < found.value < found.high


def test_a_part_counts_the_prompts_that_ask_for_it() -> None:
    """The 8 red prompts ask for a shade, 2 of them in vain; nobody asks for a frame."""
    red = np.array([prompt.startswith("red") for prompt in PROMPTS])[TRUTH.index]
    shade = np.where(red, TRUTH.index > 3, np.nan)  # prompts 0 and 3 are red and wrong
    parts = {**TRUTH.adherence, "shade": shade, "frame": np.full(96, np.nan)}
    found = metrics.evaluate(replace(TRUTH, adherence=parts), TRUTH, WEIGHTS)
    own = found["adherence_shade"]
    assert (own.value, own.n_prompts, own.n_seeds) == (0.75, 8, 4)
    assert own.low < 0.75 < own.high
    assert "adherence_frame" not in found
    # where all who ask got it, the exact bound is that of 8 prompts
    right = replace(TRUTH, adherence={**parts, "shade": np.where(red, 1.0, np.nan)})
    own = metrics.evaluate(right, TRUTH, WEIGHTS)["adherence_shade"]
    assert (own.value, own.low) == (1, pytest.approx(0.025 ** (1 / 8)))
    minus = metrics.compare(right, replace(TRUTH, adherence=parts), TRUTH, WEIGHTS)
    assert (minus["adherence_shade"].value, minus["adherence_shade"].n_prompts) == (0.25, 8)


def test_draws_are_those_of_each_metric_on_model_and_reference_of_unequal_seeds() -> None:
    rng = np.random.default_rng(1)

    def invented(seeds: int, shift: float) -> Measures:
        centre = rng.normal(size=(24, 1, 5))
        features = (centre + rng.normal(size=(24, seeds, 5)) + shift).reshape(-1, 5)
        pictures = {"sharpness": rng.uniform(1, 2, size=24 * seeds)}
        return Measures(
            prompts=tuple(PROMPTS), n_seeds=seeds, features={"shapes": features}, pictures=pictures
        )

    model, truth = invented(2, 0.5), invented(3, 0.0)
    found = metrics.draws(model, truth, WEIGHTS)
    own, theirs = (m.features["shapes"] for m in (model, truth))
    kernels = fidelity.prompt_kernels(own, model.index, theirs, truth.index)
    wanted = {
        "kid": fidelity.kid(kernels, WEIGHTS),
        "kid_standard": fidelity.kid_standard(kernels, WEIGHTS),
        "cross_prompt": collapse.cross_prompt(
            collapse.prompt_distances(own.reshape(24, 2, 5)),
            collapse.prompt_distances(theirs.reshape(24, 3, 5)), WEIGHTS,
        ),
    }  # fmt: skip
    for key, draws in wanted.items():
        np.testing.assert_allclose(found[key], draws, rtol=1e-12)
    assert "fd" not in found and "needs at least 50 pictures" in metrics.refused(model, truth)[0]
    # a resample weighs the prompts of the reference as it weighs those of the model
    weight = WEIGHTS[7]
    top, bottom = (
        np.average(m.pictures["sharpness"], weights=weight[m.index]) for m in (model, truth)
    )
    assert found["sharpness"][7] == pytest.approx(top / bottom, rel=1e-12)


def test_a_share_of_all_pictures_has_an_interval() -> None:
    """Exact binomial for 24 prompts: 1 - 0.025^(1 / 24); a resample of all cannot leave 1."""
    found = metrics.evaluate(TRUTH, TRUTH, WEIGHTS)
    for key in ("adherence", "precision", "recall", "coverage"):
        assert (found[key].value, found[key].high) == (1, 1)
        assert found[key].low == pytest.approx(0.025 ** (1 / 24))


def test_without_a_world_only_pictures_and_features_are_measured() -> None:
    bare = measure(
        in_memory(images(), PROMPTS, SEEDS), None, Instruments(features={"pixels": WORLD.features})
    )
    found = metrics.evaluate(bare, bare, WEIGHTS)
    assert {"kid_pixels", "sharpness"} <= found.keys()
    assert not {"adherence", "layout_diversity", "kid"} & found.keys()
    assert found["sharpness"].value == 1
