"""Several models beside each other: which rows, of what, how many, and how they are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.squares import Squares

from fewstep.evaluate import story, suites
from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.gallery import Pictures, true_pictures
from fewstep.evaluate.generate import GenerationSpec, Progress
from fewstep.evaluate.judge import Candidate, Drawn, Judged, difference, judge, kid_gap, truth_row
from fewstep.evaluate.measures import Instruments, in_memory
from fewstep.evaluate.results import Cost, Role
from fewstep.evaluate.show import first_seeds, grid, likeness, sheets
from fewstep.evaluate.story import EvalConfig

WORLD = Squares()
PROMPTS = tuple(WORLD.prompts("test", 12))
REFERENCE = true_pictures(WORLD, PROMPTS, (100, 101, 102))


def faded(light: float, seeds: int, first: int = 0) -> Pictures:
    """True pictures, darker the worse the invented model."""
    asked = [prompt for prompt in PROMPTS for _ in range(seeds)]
    images = WORLD.truth(asked, [*range(first, first + seeds)] * len(PROMPTS))
    return in_memory(light * images, PROMPTS, tuple(range(seeds)))


def model(name: str, role: Role, light: float, seeds: int, steps: int) -> Candidate:
    spec = GenerationSpec(
        model=name, fingerprint="f", prompts=PROMPTS, seeds=tuple(range(seeds)),
        sigmas=tuple(np.linspace(1, 0, steps + 1)),
    )  # fmt: skip
    cost = Cost(seconds=1.0, images=12 * seeds, model_calls=12 * seeds * steps)

    def draw(told: Progress) -> Drawn:
        told(12 * seeds, 12 * seeds)
        return Drawn(pictures=faded(light, seeds), spec=spec, cost=cost)

    return Candidate(name=name, role=role, total=12 * seeds, draw=draw)


TOLD: list[tuple[int, int]] = []


@pytest.fixture(scope="module")
def judged() -> Judged:
    candidates = [
        truth_row(WORLD, PROMPTS, (0, 1, 2)),
        model("teacher, 5 steps", "teacher_full", 1.0, 2, 5),
        model("teacher, 2 steps", "teacher_few", 0.3, 3, 2),
        model("student, 2 steps", "student", 0.7, 3, 2),
    ]
    instruments = Instruments(features={"shapes": WORLD.features})
    return judge(candidates, REFERENCE, WORLD, instruments, lambda *at: TOLD.append(at))


def test_rows_say_what_they_are_and_how_many_pictures_they_stand_on(judged: Judged) -> None:
    assert [(row.name, row.role) for row in judged.rows] == [
        ("true pictures", "truth"), ("teacher, 5 steps", "teacher_full"),
        ("teacher, 2 steps", "teacher_few"), ("student, 2 steps", "student"),
    ]  # fmt: skip
    assert [row.metrics["kid"].n_seeds for row in judged.rows] == [3, 2, 3, 3]
    assert [row.spec and row.spec.calls for row in judged.rows] == [None, 5, 2, 2]
    assert [row.cost and row.cost.model_calls for row in judged.rows] == [None, 120, 72, 72]


def test_the_truth_row_is_perfect_and_fresh(judged: Judged) -> None:
    truth = judged.rows[0].metrics
    assert truth["adherence"].value == 1
    assert truth["kid"].value != 0  # other pictures than the reference
    assert truth["kid"].low < 0 < truth["kid"].high
    assert truth["layout_diversity"].value == pytest.approx(1, abs=0.3)


def test_the_truth_row_shares_no_picture_with_a_reference_of_its_seeds() -> None:
    drawn = truth_row(WORLD, PROMPTS, (0, 5)).draw(lambda *_: None).pictures
    wanted = WORLD.truth(PROMPTS[3:4] * 2, [1_000_000, 1_000_005])
    assert torch.equal(drawn.read(3, 4), wanted)
    assert not torch.equal(wanted, WORLD.truth(PROMPTS[3:4] * 2, [0, 5]))


def test_the_story_states_signs_and_the_fewest_seeds(judged: Judged) -> None:
    found = {c.name: c for c in story.comparisons(judged)}
    assert {name: c.estimate.n_seeds for name, c in found.items()} == {
        "share of the KID gap closed": 2,
        "adherence, student minus teacher, 5 steps": 2,
        "layout diversity, student minus teacher, 5 steps": 2,
        "adherence, student minus teacher, 2 steps": 3,
        "layout diversity, student minus teacher, 2 steps": 3,
    }
    ours, theirs = (
        judged.metrics(name)["layout_diversity"].value
        for name in ("student, 2 steps", "teacher, 5 steps")
    )
    minus = found["layout diversity, student minus teacher, 5 steps"].estimate.value
    assert minus == pytest.approx(ours - theirs) and abs(minus) > 1e-3
    closed = found["share of the KID gap closed"]
    assert closed.metric == "kid_gap_closed" and closed.goal == 0.8
    assert 0.3 < closed.estimate.low < closed.estimate.value < 1


def test_a_difference_is_paired(judged: Judged) -> None:
    worse = difference(judged, "teacher, 2 steps", "student, 2 steps", "kid").estimate
    kid = {row.name: row.metrics["kid"] for row in judged.rows}
    assert worse.value == kid["teacher, 2 steps"].value - kid["student, 2 steps"].value
    assert worse.low > 0
    spread = [k.high - k.low for k in (kid["teacher, 2 steps"], kid["student, 2 steps"])]
    assert worse.high - worse.low < np.hypot(*spread)


def test_the_gap_may_be_of_any_two_models(judged: Judged) -> None:
    whole = kid_gap(judged, "teacher, 2 steps", "teacher, 5 steps", "teacher, 5 steps", "all of it")
    assert whole.estimate.value == whole.estimate.low == whole.estimate.high == 1
    found = suites.gaps(judged, "teacher, 2 steps", "teacher, 5 steps")
    assert [c.metric for c in found] == [
        "kid_gap_closed", "layout_diversity_recovered", "distance_recovered",
    ]  # fmt: skip
    few, student, full = (judged.draws[name]["kid"][0] for name in (
        "teacher, 2 steps", "student, 2 steps", "teacher, 5 steps"))  # fmt: skip
    assert found[0].estimate.value == pytest.approx((few - student) / (few - full))
    a, b, c = (judged.draws[name]["distance"][0] for name in (
        "teacher, 2 steps", "student, 2 steps", "teacher, 5 steps"))  # fmt: skip
    wanted = (b - a) / (c - a) if c > a else np.nan
    assert found[-1].estimate.value == pytest.approx(wanted, nan_ok=True)
    assert metric("distance_recovered").label == "Feature distance recovered"


def test_later_models_are_held_against_the_first(judged: Judged) -> None:
    rows = [row.name for row in judged.rows[1:]]
    found = suites.against_first(judged, rows, ("adherence",))
    assert [c.name for c in found] == [
        "adherence, teacher, 2 steps minus teacher, 5 steps",
        "adherence, student, 2 steps minus teacher, 5 steps",
    ]
    of = {row.name: row.metrics["adherence"].value for row in judged.rows}
    assert found[0].estimate.value == of[rows[1]] - of[rows[0]]


def test_progress_counts_every_drawn_picture(judged: Judged) -> None:
    assert TOLD == [(36 + 24, 132), (60 + 36, 132), (96 + 36, 132)]


def test_curves_join_the_rows_of_a_model(judged: Judged) -> None:
    rows = {"teacher": {2.0: "teacher, 2 steps", 5.0: "teacher, 5 steps"}}
    kid = next(c for c in suites.retention_curves(judged, rows) if c.y == "KID")
    [points] = kid.lines.values()
    assert [(p.label, p.x.value) for p in points] == [("2", 2.0), ("5", 5.0)]
    assert points[0].y == judged.metrics("teacher, 2 steps")["kid"]
    pareto = suites.strength_curves(judged, rows)
    pairs = [(c.x, c.y) for c in pareto]
    assert pairs[:2] == [("Layout diversity", "KID"), ("Layout diversity", "Adherence")]
    assert pareto[0].lines["teacher"][1].x == judged.metrics("teacher, 5 steps")["layout_diversity"]


def test_grids_show_the_same_prompts_and_seeds_of_all(judged: Judged, tmp_path: Path) -> None:
    path, caption = grid(judged, tmp_path / "grid.png")
    assert path.is_file() and caption.startswith("8 of the 12 prompts, 2 pictures each")
    found = sheets(judged, tmp_path / "sheets", 2)
    assert [(s.row, s.prompt) for s in found[:3]] == [
        ("true pictures", PROMPTS[0]), ("true pictures", PROMPTS[1]),
        ("teacher, 5 steps", PROMPTS[0]),
    ]  # fmt: skip
    sheet = np.array(Image.open(tmp_path / found[2].file))
    assert sheet.shape == (16, 2 * 16 + 2, 3)
    own = judged.pictures["teacher, 5 steps"].read(0, 1)
    np.testing.assert_allclose(sheet[:, 18:] / 255, own[1].permute(1, 2, 0), atol=0.003)


def test_a_grid_has_the_first_seeds_of_the_first_prompts() -> None:
    numbered = torch.arange(12 * 3).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    shown = first_seeds(in_memory(numbered, PROMPTS, (0, 1, 2)), 4, 2)
    assert shown[:, 0, 0, 0].tolist() == [0, 1, 3, 4, 6, 7, 9, 10]


def test_likeness_has_a_map_for_each_row(judged: Judged, tmp_path: Path) -> None:
    [(file, caption)] = likeness(judged, tmp_path / "likeness.png").items()
    assert "shapes features" in caption
    with Image.open(tmp_path / file) as image:
        assert image.width > 4 * 200
    few = {name: m for name, m in judged.measures.items() if m.n_seeds == 1}
    assert likeness(replace(judged, measures=few), tmp_path / "none.png") == {}


def candidate(pictures: Pictures) -> Candidate:
    return Candidate(name="m", role="other", total=1, draw=lambda told: Drawn(pictures=pictures))


def test_unequal_numbers_of_pictures_are_told(judged: Judged) -> None:
    [note] = [note for note in judged.notes if "unequal" in note]
    assert "(true pictures 3, teacher, 5 steps 2, teacher, 2 steps 3, student, 2 steps 3)" in note
    even = judge([candidate(faded(1, 3))], REFERENCE, WORLD, Instruments(features={}))
    assert even.notes == []


def test_judging_leaves_the_global_streams_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    judge(
        [candidate(faded(1, 2))], REFERENCE, WORLD, Instruments(features={"shapes": WORLD.features})
    )
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_the_reference_is_configured_or_follows_the_samples() -> None:
    assert EvalConfig().full(20, 2.0) == (20, 2.0)
    assert EvalConfig(full_steps=50, full_guidance=4.0).full(20, 2.0) == (50, 4.0)
    assert EvalConfig(full_guidance=1.0).full(20, 2.0) == (20, 1.0)
    for wrong in ({"full_seeds": 5}, {"full_seeds": 0}, {"full_steps": 0}, {"prompts": 1}):
        with pytest.raises(ValueError, match=f"eval.{next(iter(wrong))}"):
            EvalConfig(**wrong)
