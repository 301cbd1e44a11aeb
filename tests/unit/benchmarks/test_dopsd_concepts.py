"""The concepts of the D-OPSD studies: without a word, told apart, and judged as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.dopsd_concepts import (
    BETWEEN,
    FURTHER,
    NOVEL,
    PROMPTS,
    ROSTER,
    SECOND,
    UNLIKE,
    Taught,
    captions,
    further,
    named_likeness,
    novel,
    pairs,
    pictures,
    taught,
    write_folder,
)
from benchmarks.dopsd_verdicts import is_copied, own_things, verdicts

from fewstep.data.buckets import buckets
from fewstep.data.folder import FolderConfig, read_folder
from fewstep.errors import UserError
from fewstep.rng import seed_of
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.parse import hue_gap
from fewstep.worlds.shapes.prompts import meaning, scene_for, understand
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import HUES, OUTLINES, Look
from fewstep.worlds.shapes.world import Shapes

WORLD = Shapes()
ALL = taught(WORLD)
ROOT = Path(__file__).parents[3]


def true(one: Taught, texts: list[str]) -> Pixels:
    """Pictures of these prompts as they should be."""
    scenes = [
        scene_for(WORLD.cfg, understand(text), np.random.default_rng(seed_of("check", i)),
                  one.concept)
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return torch.from_numpy(render(scenes, WORLD.cfg.side))


def test_at_least_two_hues_two_outlines_and_a_style() -> None:
    kinds = list(ROSTER.values())
    assert len(kinds) >= 6 and kinds.count("hue") == kinds.count("outline") == 2
    assert {"both", "style"} <= set(kinds)
    assert len({repr(one.concept) for one in ALL}) == len(ALL)
    assert taught(WORLD) == ALL


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_what_has_no_word_is_unlike_what_has_one(one: Taught) -> None:
    if not isinstance(one.concept, Look):
        return
    away = min(hue_gap(one.concept.hue, hue) for hue in HUES.values())
    alike = max(named_likeness(WORLD, one.concept).values())
    assert (away == 0) if one.kind == "outline" else (away >= BETWEEN)
    assert (one.concept.outline in OUTLINES.values()) == (one.kind == "hue")
    assert alike > 0.95 if one.kind == "hue" else alike <= UNLIKE


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_true_pictures_succeed_and_the_training_pictures_are_copies(one: Taught) -> None:
    texts = novel(WORLD, one, 40)
    found = verdicts(WORLD, one, true(one, texts), texts)
    assert found["right"].mean() >= 0.95 and found["success"].mean() >= 0.85
    own = verdicts(WORLD, one, pictures(WORLD, one), captions(WORLD, one))
    assert own["right"].all() and own["copied"].all() and not own["success"].any()


def test_another_concept_does_not_succeed() -> None:
    for one, other in zip(ALL, ALL[1:] + ALL[:1], strict=True):
        texts = novel(WORLD, one, 24)
        looks = isinstance(one.concept, Look) and isinstance(other.concept, Look)
        shown = true(other, texts) if looks else WORLD.truth([one.in_words(t) for t in texts],
                                                             range(24))  # fmt: skip
        found = verdicts(WORLD, one, shown, texts)
        assert found["success"].mean() <= 0.05, (one.name, other.name)
        assert found["asked"].mean() >= 0.9  # the rest of the prompt is as it should be


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_prompts_are_new_and_read_as_meant(one: Taught) -> None:
    texts, known = novel(WORLD, one, 32), {meaning(understand(t)) for t in captions(WORLD, one)}
    assert len(set(texts)) == 32 and novel(WORLD, one, 8) == texts[:8]
    assert not known & {meaning(understand(text)) for text in texts}
    WORLD.check([one.in_words(text) for text in texts])
    for text in texts:
        assert len(understand(one.in_words(text)).roles) == len(understand(text).roles)
        assert one.said(text).count("[V]") == 1


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_further_prompts_are_neither_captions_nor_what_is_judged(one: Taught) -> None:
    texts = further(WORLD, one)
    assert len(set(texts)) == FURTHER == 32 and further(WORLD, one) == texts
    judged = novel(WORLD, one, NOVEL) + captions(WORLD, one)
    assert not {meaning(understand(t)) for t in judged} & {meaning(understand(t)) for t in texts}


def test_a_copy_has_all_its_things_where_a_picture_had_one() -> None:
    places = np.array([[0.3, 0.3], [0.7, 0.7]])
    near, away, none = [0.32, 0.31], [0.3, 0.6], [np.nan, np.nan]
    assert is_copied(np.array([near]), places) and is_copied(np.array([near, none]), places)
    assert not is_copied(np.array([near, away]), places)
    assert not is_copied(np.array([none]), places)
    assert own_things("a [V] and a red circle") == [0] and own_things("two [V]s") == [0, 1]
    assert own_things("a red circle and two [V]s") == [1, 2] and own_things("a red circle") == [0]


def test_the_second_of_a_pair_has_a_word_of_its_own() -> None:
    found = list(pairs(WORLD, ["hue4", "outline5", "both7"]))
    assert [(a.name, b.name) for a, b in found] == [("hue4", "outline5")]
    [(first, second)] = found
    assert first.said("two [V]s") == "two [V]s"
    assert second.said("two [V]s") == f"two {SECOND}s" and second.concept == ALL[2].concept


def test_the_folder_is_one_that_trains(tmp_path: Path) -> None:
    for one in (ALL[0], ALL[-1]):
        path = write_folder(WORLD, one, tmp_path / one.name)
        for context in ("picture", "prompt"):
            prompts = PROMPTS if context == "picture" else None
            cfg = FolderConfig(path=str(path), size=64, context=context, prompts=prompts)
            folder = read_folder(cfg, buckets(64, 8))
            assert len(folder.pictures) == 4 and not folder.warnings
            assert [r.file for r in folder.left_out] == ([] if prompts else [PROMPTS])
            assert [p.captions[0] for p in folder.pictures] == [
                one.said(text) for text in captions(WORLD, one)
            ]
        lines = (path / PROMPTS).read_text().splitlines()
        assert lines == [one.said(text) for text in further(WORLD, one)]
    assert folder.pictures[0].enhanced == (captions(WORLD, ALL[-1])[0],)
    with pytest.raises(UserError, match="there is no concept 'hue9'"):
        taught(WORLD, ["hue9"])


def test_the_examples_are_what_the_script_makes(tmp_path: Path) -> None:
    from examples.make_pictures import FOLDERS, main

    main(tmp_path)
    for folder in FOLDERS:
        for path in sorted((tmp_path / folder).iterdir()):
            there = ROOT / "examples" / folder / path.name
            assert there.read_bytes() == path.read_bytes(), there
