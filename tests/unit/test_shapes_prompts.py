"""Saying and understanding are inverse; splits share no meaning (trap 38)."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fewstep.worlds.shapes.prompts import (
    CATEGORIES,
    CONCEPT,
    HELD_OUT,
    SPLITS,
    WORDS,
    Role,
    Spec,
    category,
    draw_in_split,
    draw_spec,
    held_out,
    look_of,
    meaning,
    say,
    scene_for,
    split_of,
    understand,
)
from fewstep.worlds.shapes.scene import CROWDED, HUES, OUTLINES, draw_concept, related
from fewstep.worlds.shapes.world import Shapes

CFG = CROWDED


def test_every_saying_is_understood_as_it_was_meant() -> None:
    rng = np.random.default_rng(0)
    used = set()
    for _ in range(4000):
        spec = draw_spec(CFG, rng)
        prompt = say(spec, rng)
        used |= set(prompt.split())
        assert meaning(understand(prompt)) == meaning(spec), prompt
    assert used <= set(WORDS)
    assert {*HUES, *OUTLINES, "two", "three", "left", "above", "large"} <= used


def test_the_order_of_a_list_means_nothing_and_that_of_a_relation_does() -> None:
    one, two = Role("circle", "red"), Role("square", "blue")
    assert meaning(Spec((one, two))) == meaning(Spec((two, one)))
    assert meaning(Spec((one, two), None, "above")) != meaning(Spec((two, one), None, "above"))


def test_a_relation_said_from_its_other_end_is_the_same_request() -> None:
    """Else a test prompt could be seen in training, turned around."""
    a, b = Role("circle", "red"), Role("square", "blue")
    for here, back in (("left of", "right of"), ("above", "below")):
        one, two = Spec((a, b), "gray", here), Spec((b, a), "gray", back)
        assert meaning(one) == meaning(two) != meaning(Spec((a, b), "gray", back))
        for seed in range(8):
            scene = scene_for(CFG, one, np.random.default_rng(seed))
            first, second = ((thing.x, thing.y) for thing in scene.things)
            assert related(here, first, second) and related(back, second, first)


def test_a_concept_is_said_and_understood() -> None:
    spec = Spec((Role(CONCEPT), Role("square", "blue")), "gray", "left of")
    prompt = say(spec, np.random.default_rng(0))
    assert understand(prompt) == spec
    look = draw_concept(np.random.default_rng(1))
    scene = scene_for(CFG, spec, np.random.default_rng(2), look)
    assert scene.things[0].outline == look.outline
    assert scene.things[1].outline == OUTLINES["square"]
    with pytest.raises(ValueError, match="pass the concept"):
        look_of(Role(CONCEPT), None)


def test_splits_share_no_meaning() -> None:
    world = Shapes()
    told = {
        split: {meaning(understand(p)) for p in world.prompts(split, 400)} for split in SPLITS
    }  # fmt: skip
    for a, b in itertools.combinations(SPLITS, 2):
        assert not told[a] & told[b]


def test_the_split_belongs_to_the_meaning_not_to_the_words() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        spec = draw_spec(CFG, rng)
        assert {split_of(understand(say(spec, rng))) for _ in range(6)} == {split_of(spec)}


def test_held_out_pairs_appear_in_their_split_alone() -> None:
    rng = np.random.default_rng(0)
    for split in SPLITS:
        for _ in range(100):
            assert held_out(draw_in_split(CFG, split, rng)) == (split == "heldout")
    assert held_out(Spec((Role("circle", "red"), Role(HELD_OUT[0][1], HELD_OUT[0][0]))))


def test_split_sizes() -> None:
    rng = np.random.default_rng(0)
    drawn = [split_of(draw_spec(CFG, rng)) for _ in range(4000)]
    for split in ("val", "test"):
        assert 0.03 < drawn.count(split) / len(drawn) < 0.08


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="finds no object"):
        understand("a nice day")
    with pytest.raises(ValueError, match="'dev' is not one of train, val, test, heldout"):
        draw_in_split(CFG, "dev", np.random.default_rng(0))
    with pytest.raises(ValueError, match="has no colour"):
        look_of(replace(Role("circle", "red"), colour=None), None)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red circle and four blue squares", "'four', 'blue', 'squares'"),
        ("a red circle on a purple background", "'purple', 'background'"),
        ("a red circle and a dog", "'dog'"),
        ("a red circle left of a blue square above a green cross", "'above'"),
        ("a red circle on a tan background on a gray background", "'gray', 'background'"),
    ],
)
def test_a_prompt_that_asks_for_more_than_is_understood_is_refused(prompt: str, words: str) -> None:
    """Else it would be judged on the part that was understood."""
    with pytest.raises(ValueError, match=f"does not know what {words} means in '{prompt}'"):
        understand(prompt)


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("a red circle", "single_object"),
        ("a small red circle on a white background", "single_object"),
        ("a red circle and a red square", "two_objects"),
        ("a red circle and a blue circle", "two_objects"),
        ("two green triangles", "counting"),
        ("two red circles and a red square", "counting"),
        ("a red circle and a blue square", "colour_binding"),
        ("two red circles and a blue square", "colour_binding"),
        ("a red circle left of a blue square", "relation"),
    ],
)
def test_a_prompt_is_of_the_hardest_kind_that_it_asks(prompt: str, kind: str) -> None:
    assert category(understand(prompt)) == kind


def test_kinds_of_prompts_do_not_overlap() -> None:
    prompts = Shapes().prompts("test", 60)
    found = Shapes().categories(prompts)
    assert np.sum(list(found.values()), axis=0).tolist() == [1] * 60
    assert {"single_object", "counting", "colour_binding"} <= found.keys() <= set(CATEGORIES)
