"""The story of a run, on a small world and a toy family: which rows, of what, and how many."""

from __future__ import annotations

import pytest
import torch
from tests.toy import ToyBackbone
from tests.unit.evaluate.test_generate import ToyFamily
from tests.unit.evaluate.test_suite import Squares

from fewstep.evaluate.generate import fingerprint
from fewstep.evaluate.story import GRID_ROWS, EvalConfig, Story, first, models, tell

WORLD = Squares()
PROMPTS = tuple(WORLD.prompts("test", 12))
CFG = EvalConfig(prompts=12, seeds=3, full_seeds=2, full_steps=5, batch=7)


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def story(told: list[tuple[int, int]]) -> Story:
    teacher, student = ToyFamily(), ToyFamily()
    student.backbone = ToyBackbone(seed=1)
    asked = models(teacher, student, few=2, full=CFG.full(20, 3.0), cfg=CFG)
    return tell(WORLD, PROMPTS, asked, CFG, height=128, width=128, told=lambda *at: told.append(at))


def test_rows_say_what_they_are_and_how_many_pictures_they_stand_on(story: Story) -> None:
    assert [(row.name, row.role) for row in story.rows] == [
        ("true pictures", "truth"), ("teacher, 5 steps, w = 3", "teacher_full"),
        ("teacher, 2 steps", "teacher_few"), ("student, 2 steps", "student"),
    ]  # fmt: skip
    counts = [(e.n_prompts, e.n_seeds) for row in story.rows for e in row.metrics.values()]
    assert set(counts[: len(story.rows[0].metrics)]) == {(12, 3)}
    assert [row.metrics["kid"].n_seeds for row in story.rows] == [3, 2, 3, 3]
    specs = [row.spec for row in story.rows if row.spec]
    assert story.rows[0].spec is None
    assert [(s.calls, s.seeds) for s in specs] == [(10, (0, 1)), (2, (0, 1, 2)), (2, (0, 1, 2))]
    assert specs[0].fingerprint == specs[1].fingerprint != specs[2].fingerprint
    assert specs[2].fingerprint == fingerprint(ToyBackbone(seed=1))


def test_the_truth_row_is_perfect_and_fresh(story: Story) -> None:
    truth = story.rows[0].metrics
    assert truth["adherence"].value == 1
    assert truth["kid"].value != 0  # other pictures than the reference
    assert truth["kid"].low < 0 < truth["kid"].high
    assert truth["layout_diversity"].value == pytest.approx(1, abs=0.3)


def test_comparisons_state_the_fewest_seeds(story: Story) -> None:
    seeds = {c.name: c.estimate.n_seeds for c in story.comparisons}
    assert seeds == {
        "share of the KID gap closed": 2,
        "adherence, student minus teacher, 5 steps, w = 3": 2,
        "layout diversity, student minus teacher, 5 steps, w = 3": 2,
        "adherence, student minus teacher, 2 steps": 3,
        "layout diversity, student minus teacher, 2 steps": 3,
    }
    assert story.comparisons[0].metric == "kid_gap_closed"


def test_progress_counts_every_drawn_picture(story: Story, told: list[tuple[int, int]]) -> None:
    done = [d for d, _ in told]
    assert done == sorted(done) and done[-1] == 12 * (2 + 3 + 3)
    assert {total for _, total in told} == {done[-1]}


def test_the_grid_shows_the_same_prompts_and_seeds_of_all(story: Story) -> None:
    assert story.grid_prompts == PROMPTS[:GRID_ROWS] and story.grid_seeds == 2
    assert [len(c.images) for c in story.columns] == [2 * GRID_ROWS] * 4
    numbered = torch.arange(12 * 3).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    assert first(numbered, 3, 2)[:, 0, 0, 0].tolist()[:6] == [0, 1, 3, 4, 6, 7]


def test_the_reference_is_configured_or_follows_the_samples() -> None:
    assert EvalConfig().full(20, 2.0) == (20, 2.0)
    assert EvalConfig(full_steps=50, full_guidance=4.0).full(20, 2.0) == (50, 4.0)
    assert EvalConfig(full_guidance=1.0).full(20, 2.0) == (20, 1.0)
    for wrong in ({"full_seeds": 5}, {"full_seeds": 0}, {"full_steps": 0}, {"prompts": 1}):
        with pytest.raises(ValueError, match=f"eval.{next(iter(wrong))}"):
            EvalConfig(**wrong)
