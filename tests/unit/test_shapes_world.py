"""The Shapes world keeps the promises of `worlds.base.World`; its features rank damage."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewstep.errors import UserError
from fewstep.evaluate.generate import digest
from fewstep.experiment.models import make_world
from fewstep.recipes.ladd import ladd_shapes
from fewstep.recipes.shapes_features import FeaturesConfig, blurred, train
from fewstep.worlds.base import World
from fewstep.worlds.shapes import world
from fewstep.worlds.shapes.count import count_prompts
from fewstep.worlds.shapes.features import WIDTH, extract, load_features
from fewstep.worlds.shapes.prompts import (
    CONCEPT,
    SPLITS,
    Spec,
    draw_in_split,
    draw_spec,
    say,
    split_of,
    understand,
)
from fewstep.worlds.shapes.scene import CROWDED, WorldConfig, draw_concept
from fewstep.worlds.shapes.world import LEVELS, Shapes

WORLD: World = Shapes()


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD under the kernel (x . y / d + 1)^3."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


@pytest.mark.parametrize(("name", "level"), LEVELS.items())
def test_a_config_names_its_level(name, level: WorldConfig) -> None:
    world = make_world(replace(ladd_shapes(), world=name))
    assert isinstance(world, Shapes) and (world.cfg, world.name) == (level, name)


def test_harder_levels_ask_for_more() -> None:
    easy, pairs, crowded, hard = LEVELS.values()
    assert "star" in pairs.shapes and "star" not in easy.shapes and easy.related == 0
    assert easy.max_objects == pairs.max_objects == 2 and crowded.max_objects == 3
    assert hard.radius[0] < crowded.radius[0] and hard.turn > crowded.turn


def test_prompts_are_the_same_and_a_prefix_of_more() -> None:
    assert WORLD.prompts("test", 20) == Shapes().prompts("test", 50)[:20]
    assert WORLD.prompts("test", 20) != WORLD.prompts("val", 20)


@pytest.mark.parametrize(
    ("split", "known"),
    [("train", "8d603aa603fed3d9"), ("val", "74e9706af5760339"), ("test", "7935dae8ed174292"),
     ("heldout", "bbcd0f6e79a8c3e5")],
)  # fmt: skip
def test_the_prompts_that_figures_stand_on_stay_as_they_are(split: str, known: str) -> None:
    assert digest("\n".join(WORLD.prompts(split, 200)).encode()) == known


def test_no_prompt_comes_twice_and_the_list_keeps_the_mix_of_its_draws() -> None:
    prompts = WORLD.prompts("test", 200)
    assert len(set(prompts)) == 200
    single = [sum(role.count for role in understand(p).roles) == 1 for p in prompts]
    assert 0.2 <= np.mean(single) <= 0.5  # half of the draws


def test_a_split_that_is_used_up_says_so() -> None:
    """Two pairs of colour and shape, in two phrasings without a background."""
    tiny = Shapes(WorldConfig(max_objects=1, sized=0, backgrounds=("white",)))
    with pytest.raises(UserError, match="has 10 prompts, 11 were asked for"):
        tiny.prompts("heldout", 11)
    assert len(tiny.prompts("heldout", 10)) == 10  # and in three with one


def test_a_split_that_is_used_up_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after a thousand draws in vain for each of the last prompts, which took minutes."""
    drawn = 0

    def counted(*args: object) -> Spec:
        nonlocal drawn
        drawn += 1
        return draw_in_split(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world, "draw_in_split", counted)
    with pytest.raises(UserError, match=r"the test split .* has 2133 prompts, 2500 were asked for"):
        Shapes().prompts("test", 2500)
    assert drawn < 10_000


def test_prompts_that_are_too_rare_to_be_drawn_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "PATIENCE", 5)
    with pytest.raises(UserError, match=r"gives only some \d+ prompts, the others are too rare"):
        Shapes().prompts("test", 2000)


@pytest.mark.parametrize(("most", "sized", "related"), [(3, 0.0, 0.5), (2, 0.9, 0.0)])
def test_prompts_are_counted_as_they_are_drawn(most: int, sized: float, related: float) -> None:
    cfg = WorldConfig(
        colours=("red", "green"), shapes=("star", "cross"), backgrounds=("tan",),
        max_objects=most, sized=sized, related=related,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    told: dict[str, set[str]] = {split: set() for split in SPLITS}
    for _ in range(20_000):
        spec = draw_spec(cfg, rng)
        told[split_of(spec)].add(say(spec, rng))
    assert {split: len(texts) for split, texts in told.items()} == {
        split: count_prompts(cfg, split) for split in SPLITS
    }
    assert min(map(len, told.values())) > 5


def test_truth_depends_on_prompt_and_seed_alone() -> None:
    prompts = WORLD.prompts("test", 4)
    together = WORLD.truth(prompts, [5, 6, 7, 8])
    assert together.shape == (4, 3, 64, 64) and together.dtype == torch.float32
    torch.testing.assert_close(WORLD.truth(prompts[2:3], [7]), together[2:3], rtol=0, atol=0)
    assert (WORLD.truth(prompts[2:3], [8]) != together[2:3]).any()
    assert (WORLD.truth(prompts[:1] * 2, [0, 1])[0] != WORLD.truth(prompts[:1], [0])[0]).sum() == 0
    with pytest.raises(ValueError):
        WORLD.truth(prompts, [1])


def test_truth_is_right_and_laid_out_anew_for_each_seed() -> None:
    prompts = WORLD.prompts("test", 8) * 4
    images = WORLD.truth(prompts, [k for k in range(4) for _ in range(8)])
    assert WORLD.adherence(images, prompts)["all"].all()
    spots = WORLD.layouts(images, prompts).reshape(4, 8, -1)
    assert np.nanmin(np.nanstd(spots[..., 0], axis=0)) > 0.01


def test_concepts() -> None:
    world = Shapes()
    rng = np.random.default_rng(0)
    look = draw_concept(rng)
    shown, new = (world.concept_picture(look, rng) for _ in range(2))
    assert world.judge_concept(new, [look], shown)["new"].all()
    with pytest.raises(ValueError, match="no look of its own"):
        world.truth([f"a {CONCEPT}"], [0])


def test_features_are_standard_on_the_truth_and_free_of_the_batch() -> None:
    world = Shapes(CROWDED)  # the level that they were trained on
    prompts = world.prompts("train", 300)
    images = world.truth(prompts, range(300))
    features = world.features(images)
    assert features.shape == (300, WIDTH) and features.dtype == np.float64
    assert 0.7 < (features**2).mean() < 1.4
    np.testing.assert_allclose(WORLD.features(images[:7]), features[:7], atol=1e-4)


def test_kid_is_zero_on_the_truth_and_grows_with_every_damage() -> None:
    prompts = WORLD.prompts("val", 800)
    truth = WORLD.truth(prompts, range(800))
    reference = WORLD.features(WORLD.truth(prompts, range(800, 1600)))
    clean = kid(WORLD.features(truth), reference)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    ladders = {
        "blur": [blurred(truth, torch.full((800,), s)) for s in (0.6, 1.2, 2.4)],
        "noise": [truth + s * noise for s in (0.05, 0.1, 0.2)],
        "colour": [mixed(truth, truth.flip(1), share) for share in (0.25, 0.5, 1.0)],
        "missing": [mixed(truth, emptied(truth), share) for share in (0.1, 0.3, 0.9)],
    }
    for name, ladder in ladders.items():
        values = [clean, *(kid(WORLD.features(images), reference) for images in ladder)]
        assert values == sorted(values), (name, values)
        assert values[-1] > 10 * abs(clean), (name, values)


def mixed(images: torch.Tensor, others: torch.Tensor, share: float) -> torch.Tensor:
    """The first `share` of the pictures replaced."""
    count = int(share * len(images))
    return torch.cat([others[:count], images[count:]])


def emptied(images: torch.Tensor) -> torch.Tensor:
    """Backgrounds alone."""
    return images[:, :, :1, :1].expand(images.shape)


def test_missing_weights_name_the_command(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"fewstep\.recipes\.shapes_features"):
        load_features(tmp_path / "none.safetensors")


def test_the_recipe_trains() -> None:
    world = Shapes().cfg
    before = torch.random.get_rng_state()
    short = FeaturesConfig(steps=2, batch=4, whitened=2)
    one, two = (train(short, world) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(extract(one, image), extract(two, image))
