"""The parser: exact on true pictures, wrong on wrong ones, worse on damaged ones."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fewstep.worlds.shapes.judge import PARTS, judge, judge_concept, layouts
from fewstep.worlds.shapes.parse import read
from fewstep.worlds.shapes.prompts import (
    CONCEPT,
    Role,
    Spec,
    draw_in_split,
    draw_spec,
    look_of,
    meaning,
    say,
    scene_for,
)
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import (
    CROWDED,
    OUTLINES,
    Look,
    Outline,
    Scene,
    Thing,
    WorldConfig,
    draw_concept,
)

CFG = CROWDED
RED = (0.95, 0.05, 0.05)
BLUE = (0.05, 0.05, 0.95)
GRAY = (0.5, 0.5, 0.5)


def drawn(count: int, seed: int = 0, split: str | None = None):
    rng = np.random.default_rng(seed)
    specs = [draw_in_split(CFG, split, rng) if split else draw_spec(CFG, rng) for _ in range(count)]
    return specs, [say(s, rng) for s in specs], [scene_for(CFG, s, rng) for s in specs]


def judged(scene: Scene, prompt: str) -> dict[str, float]:
    return {part: float(v[0]) for part, v in judge(render([scene]), [prompt]).items()}


def wrong_in(verdict: dict[str, float]) -> set[str]:
    return {part for part in PARTS if verdict[part] == 0}


def thing(shape="circle", x=0.5, y=0.5, radius=0.13, colour=RED, angle=0.4) -> Thing:
    return Thing(x, y, radius, angle, colour, OUTLINES[shape])


def check_truth(count: int) -> None:
    _, prompts, scenes = drawn(count, seed=1, split="test")
    verdict = np.concatenate(
        [judge(render(scenes[i : i + 64]), prompts[i : i + 64])["all"] for i in range(0, count, 64)]
    )
    assert verdict.mean() >= 0.995


def test_true_pictures_are_right() -> None:
    check_truth(1000)


@pytest.mark.slow
def test_many_true_pictures_are_right() -> None:
    check_truth(8000)


def test_pictures_of_other_prompts_are_wrong() -> None:
    specs, prompts, scenes = drawn(300)
    others = [prompts[i - 1] for i in range(len(prompts))]
    assert judge(render(scenes), others)["all"].mean() <= 0.03
    assert sum(meaning(a) == meaning(b) for a, b in itertools.pairwise(specs)) <= 3


def test_what_is_found_is_what_was_drawn() -> None:
    specs, _, scenes = drawn(200)
    for spec, scene, picture in zip(specs, scenes, read(render(scenes)), strict=True):
        roles = [r for r in spec.roles for _ in range(r.count)]
        assert len(picture.found) == len(roles)
        for role, t in zip(roles, scene.things, strict=True):
            found = min(picture.found, key=lambda f: (f.x - t.x) ** 2 + (f.y - t.y) ** 2)
            assert (found.colour, found.shape) == (role.colour, role.shape)
            assert (found.x, found.y) == pytest.approx((t.x, t.y), abs=0.003)
            assert found.radius == pytest.approx(t.radius, rel=0.05)
            if role.shape != "circle":
                period = 2 * np.pi / t.outline.points
                turn = (found.angle - t.angle + period / 2) % period - period / 2
                assert abs(turn) < 0.1


@pytest.mark.parametrize(
    ("prompt", "wrong"),
    [
        ("a red circle on a gray background", set()),
        ("a blue circle on a gray background", {"colour"}),
        ("a red square", {"shape"}),
        ("a red circle on a black background", {"background"}),
        ("two red circles", {"count", "colour", "shape"}),
        ("a large red circle", {"size"}),
        ("a small red circle", set()),
    ],
)
def test_each_part_is_judged_by_itself(prompt: str, wrong: set[str]) -> None:
    verdict = judged(Scene(GRAY, (thing(radius=0.1),)), prompt)
    assert wrong_in(verdict) == wrong
    assert verdict["all"] == (not wrong)


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a red circle", set()),
        ("a red circle on a black background", {"background"}),
        ("a small red circle and a blue square", {"size"}),
        ("a red circle left of a blue square", {"relation"}),
        ("a large red circle left of a blue square , gray background",
         {"size", "relation", "background"}),
    ],
)  # fmt: skip
def test_what_nobody_asked_for_is_neither_right_nor_wrong(prompt: str, asked: set[str]) -> None:
    for scene in (Scene(GRAY, (thing(),)), Scene(GRAY, ())):
        found = judge(render([scene, scene]), [prompt, "a red circle"])
        for row, own in enumerate((asked, set())):
            assert {p for p in PARTS if np.isnan(found[p][row])} == set(PARTS[3:]) - own
        assert found["all"].dtype == bool and found["all"][1] == bool(scene.things)


def test_swapped_relations_and_swapped_colours() -> None:
    scene = Scene(GRAY, (thing(x=0.25), thing("square", x=0.75, colour=BLUE)))
    assert judged(scene, "a red circle left of a blue square")["all"]
    swapped = judged(scene, "a red circle right of a blue square")
    assert wrong_in(swapped) == {"relation"}
    bound = judged(scene, "a blue circle and a red square")
    assert not bound["colour"] or not bound["shape"]


def test_specks_of_dust_pass_and_ghosts_count() -> None:
    image = render([Scene(GRAY, (thing(),))])
    dusty, ghostly = image.copy(), image.copy()
    dusty[..., 4:6, 4:6] = 1.0
    ghostly[:, 0, 4:9, 4:9] += 0.3
    prompts = ["a red circle"]
    assert judge(dusty, prompts)["all"].all()
    assert not judge(ghostly, prompts)["count"].any()


def test_touching_things_come_apart_by_colour_and_merge_without() -> None:
    apart = Scene(GRAY, (thing(x=0.37), thing(x=0.63, colour=BLUE)))
    merged = Scene(GRAY, (thing(x=0.4), thing(x=0.6)))
    assert judged(apart, "a red circle and a blue circle")["all"]
    assert not judged(merged, "two red circles")["count"]


def test_a_mark_between_two_shapes_is_neither() -> None:
    blend = replace(thing(), outline=Outline(4, 0.49))
    found = read(render([Scene(GRAY, (blend,))]))[0].found
    assert [f.shape for f in found] == [None]


def test_a_hollow_shape_is_unclear() -> None:
    hole = thing(radius=0.06, colour=GRAY)
    found = read(render([Scene(GRAY, (thing("triangle", radius=0.15), hole))]))[0].found
    assert [(f.colour, f.shape) for f in found] == [("red", None)]


def test_damage_is_punished_in_order() -> None:
    _, prompts, scenes = drawn(128)
    image = render(scenes)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(image.shape)
    noisy = [judge(image + s * noise, prompts)["all"].mean() for s in (0.02, 0.1, 0.2, 0.3)]
    assert noisy == sorted(noisy, reverse=True) and noisy[0] == 1 and noisy[-1] < 0.1
    soft = [judge(box_blurred(image, n), prompts)["all"].mean() for n in (1, 3, 12)]
    assert soft == sorted(soft, reverse=True) and soft[0] == 1 and soft[-1] < 0.1


def box_blurred(image: np.ndarray, times: int) -> np.ndarray:
    """Passes of (1, 2, 1) / 4 along both axes: a Gaussian of variance times / 2."""
    for _ in range(times):
        for axis in (2, 3):
            padded = np.pad(image, [(0, 0)] * axis + [(1, 1)] + [(0, 0)] * (3 - axis), mode="edge")
            low, mid, high = (np.take(padded, range(k, k + 64), axis) for k in range(3))
            image = (low + 2 * mid + high) / 4
    return image


def test_empty_full_and_wild_pictures_are_read() -> None:
    wild = np.random.default_rng(0).uniform(-0.2, 1.2, (1, 3, 64, 64))
    images = np.concatenate([np.full((1, 3, 64, 64), 0.5), wild]).astype(np.float32)
    blank, _ = read(images)
    assert blank.background == "gray" and blank.found == ()
    assert not judge(images, ["a red circle", "a red circle"])["all"].any()
    assert np.isnan(layouts(images[:1], ["a red circle"])).all()


def test_layouts_stand_in_the_order_of_the_roles() -> None:
    things = (thing(x=0.7), thing(x=0.2, y=0.3), thing("square", x=0.5, y=0.8, colour=BLUE))
    image = render([Scene(GRAY, things)])
    (row,) = layouts(image, ["a blue square and two red circles"], CROWDED)
    spots = row.reshape(CFG.max_objects, 3)
    want = [(0.5, 0.8, 0.13), (0.2, 0.3, 0.13), (0.7, 0.5, 0.13)]
    np.testing.assert_allclose(spots, want, atol=0.004)
    (more,) = layouts(image, ["a blue square and two red circles"], WorldConfig(max_objects=1))
    np.testing.assert_array_equal(more, row)  # a prompt may ask for more than the level draws
    (less,) = layouts(image, ["a green star and a blue square"], CROWDED)
    gone, square, unasked = less.reshape(3, 3)
    assert not np.isnan(square).any() and np.isnan(unasked).all()
    assert np.isnan(gone).all()


def test_concepts_are_told_from_each_other() -> None:
    rng = np.random.default_rng(0)
    looks = [draw_concept(rng) for _ in range(200)]
    alone = Spec((Role(CONCEPT),))
    one, two = (render([scene_for(CFG, alone, rng, look) for look in looks]) for _ in range(2))
    own = judge_concept(one, looks, two)
    assert own["right"].mean() >= 0.995 and own["new"].mean() >= 0.95
    assert not judge_concept(one, looks, one)["new"].any()
    assert judge_concept(one, looks[1:] + looks[:1])["right"].mean() <= 0.08
    hues = [Look((look.hue + 40) % 360, look.outline) for look in looks]
    assert not judge_concept(one, hues)["right"].any()


def test_prompts_with_a_concept() -> None:
    look = Look(30, Outline(5, 0.7, 0.2))
    square = look_of(Role("square", "blue"), None)
    rng = np.random.default_rng(0)
    spec = Spec((Role(CONCEPT), Role("square", "blue")), "gray", "left of")
    image = render([scene_for(CFG, spec, rng, look)])
    prompt = [f"a {CONCEPT} left of a blue square on a gray background"]
    assert judge(image, prompt, concepts=[look])["all"].all()
    assert not judge(image, prompt, concepts=[square])["all"].any()
    with pytest.raises(ValueError, match="pass the concept"):
        judge(image, prompt)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(n, 3, 64, 64\), got \(1, 3, 32, 32\)"):
        read(np.zeros((1, 3, 32, 32)))
    with pytest.raises(ValueError, match="1 images, 2 prompts"):
        judge(np.zeros((1, 3, 64, 64)), ["a red circle", "a red circle"])
