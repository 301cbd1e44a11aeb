"""The concepts of the D-OPSD studies: what is taught, its pictures and its prompts.

A look (a hue, an outline or both that have no word) is called "[V]" in the prompts of the world. A
style draws every named thing as a frame; its prompts are ordinary ones behind the word for it. All
are drawn from streams that no training uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, assert_never

import numpy as np
import torch
from PIL import Image

from fewstep.errors import UserError
from fewstep.evaluate.grids import to_bytes
from fewstep.experiment.codec import suggestion
from fewstep.rng import seed_of
from fewstep.runs import replacing, write_atomic
from fewstep.shapes import Pixels
from fewstep.worlds.shapes import judge as judges
from fewstep.worlds.shapes.parse import hue_gap, read
from fewstep.worlds.shapes.prompts import (
    CONCEPT,
    Role,
    Spec,
    draw_concept_spec,
    draw_in_split,
    meaning,
    noun,
    pick,
    say,
    scene_for,
    understand,
)
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import (
    HUES,
    OUTLINES,
    Concept,
    Look,
    Scene,
    Style,
    Wanted,
    draw_concept,
    draw_scene,
)
from fewstep.worlds.shapes.world import Shapes

Kind = Literal["hue", "outline", "both", "style"]
ROSTER: Mapping[str, Kind] = {
    "hue4": "hue", "hue6": "hue", "outline5": "outline", "outline7": "outline", "both7": "both",
    "both9": "both", "style1": "style",
}  # fmt: skip
"""By name: what of a concept has no word. D-OPSD teaches what its teacher can draw, so of 14 looks
of each kind these are the first that a student of ladd_shapes draws in context in at least 30 % of
40 pictures, on prompts that nothing else uses; it can do so with about a third of the looks. The
style is there though it cannot draw it."""
NOVEL = 32
"""Prompts of a concept that no training may use."""
FURTHER = 32
"""Prompts that a user writes beside the captions."""
OTHERS = 140
"""Prompts of the tether where those of a first concept are among them, a quarter of them."""
PROMPTS = "prompts.txt"
"""Their file."""
HOLLOW = 0.4
"""Of the style. A larger hole suffers in the packaged autoencoder: of true pictures through it 84 %
are judged right at 0.4 and 62 % at 0.5 (n = 120), and a smaller one is hard to tell from none."""
UNLIKE = judges.CONCEPT_IOU
"""Largest overlap of an outline without a word with a named one, which then does not pass as it."""
BETWEEN = 20.0
"""Least degrees between a hue without a word and a named one."""
SECOND = f"left {CONCEPT}"
"""What a second concept is called: Shapes has one free noun, but an adverb that is seldom asked."""


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A concept, the word that calls it, and what comes nearest to it in words."""

    name: str
    kind: Kind
    concept: Concept
    near: tuple[str, str] = ("", "")
    """Colour and shape; of a style there are none."""
    word: str = CONCEPT

    def said(self, text: str) -> str:
        """A prompt of the world as models read it."""
        match self.concept:
            case Look():
                return text.replace(CONCEPT, self.word)
            case Style():
                return f"{self.word} , {text}"
            case _:
                assert_never(self.concept)

    def in_words(self, text: str) -> str:
        """The same prompt by words that exist: of a look those nearest to it."""
        colour, shape = self.near
        many = noun(Role(shape, colour, 2)).removeprefix("two ")
        return text.replace(f"{CONCEPT}s", many).replace(CONCEPT, f"{colour} {shape}")


def taught(world: Shapes, names: Sequence[str] = tuple(ROSTER)) -> list[Taught]:
    """The concepts of these names, always the same ones."""
    for name in names:
        if name not in ROSTER:
            raise UserError(f"there is no concept {name!r}; {suggestion(name, ROSTER)}")
    return [draw(world, name, ROSTER[name]) for name in names]


def draw(world: Shapes, name: str, kind: Kind) -> Taught:
    """By rejection, until what has no word is unlike everything that has one."""
    rng = np.random.default_rng(seed_of("taught", name))
    if kind == "style":
        return Taught(name=name, kind=kind, concept=Style(HOLLOW))
    colour, shape = pick(world.cfg.colours, rng), pick(world.cfg.shapes, rng)
    while True:
        free = draw_concept(rng)
        hue = float(HUES[colour]) if kind == "outline" else free.hue
        look = Look(hue, OUTLINES[shape] if kind == "hue" else free.outline)
        likeness = named_likeness(world, look)
        near = max(likeness, key=lambda word: likeness[word])
        away = min(hue_gap(look.hue, HUES[word]) for word in world.cfg.colours)
        if (kind == "outline" or away >= BETWEEN) and (kind == "hue" or likeness[near] <= UNLIKE):
            word = min(world.cfg.colours, key=lambda c: hue_gap(look.hue, HUES[c]))
            return Taught(name=name, kind=kind, concept=look, near=(word, near))


def named_likeness(world: Shapes, look: Look) -> dict[str, float]:
    """How well each outline of the level covers the look's own."""
    rng = np.random.default_rng(seed_of("likeness"))
    scene = draw_scene(world.cfg, (Wanted(look, "large"),), "gray", None, rng)
    [found] = read(render([scene], world.cfg.side), world.cfg, [look])[0].found
    return {word: found.likeness[word] for word in world.cfg.shapes}


def captions(world: Shapes, one: Taught) -> list[str]:
    """Four prompts of the world, one for each background: the things alone."""
    rng = np.random.default_rng(seed_of("taught captions", one.name))
    backgrounds = world.cfg.backgrounds
    things = [CONCEPT] * len(backgrounds)
    if isinstance(one.concept, Style):
        colours, shapes = (rng.permutation(of) for of in (world.cfg.colours, world.cfg.shapes))
        things = [f"{c} {s}" for c, s in zip(colours, shapes, strict=False)]
    return [
        f"a {thing} on a {background} background"
        for thing, background in zip(things, backgrounds, strict=True)
    ]


def scenes(world: Shapes, one: Taught) -> list[Scene]:
    """What the pictures show."""
    return [
        scene_for(world.cfg, understand(text),
                  np.random.default_rng(seed_of("taught pictures", one.name, i)), one.concept)
        for i, text in enumerate(captions(world, one))
    ]  # fmt: skip


def pictures(world: Shapes, one: Taught) -> Pixels:
    """(4, 3, side, side): as they are shown in training."""
    return torch.from_numpy(render(scenes(world, one), world.cfg.side))


def novel(world: Shapes, one: Taught, n: int) -> list[str]:
    """n different prompts of the world that ask for the concept in ways that no caption does."""
    rng = np.random.default_rng(seed_of("taught prompts", one.name))
    known = {meaning(understand(text)) for text in captions(world, one)}
    found: dict[str, None] = {}
    while len(found) < n:
        spec = new_spec(world, one, rng)
        if meaning(spec) not in known:
            found[say(spec, rng)] = None
    return list(found)


def further(world: Shapes, one: Taught) -> list[str]:
    """Different prompts of the world that ask for the concept in ways that neither a caption nor a
    novel prompt does: what a user writes beside the captions."""
    rng = np.random.default_rng(seed_of("further prompts", one.name))
    own = captions(world, one) + novel(world, one, NOVEL)
    known = {meaning(understand(text)) for text in own}
    found: dict[str, None] = {}
    while len(found) < FURTHER:
        spec = new_spec(world, one, rng)
        if meaning(spec) not in known:
            found[say(spec, rng)] = None
    return list(found)


def new_spec(world: Shapes, one: Taught, rng: np.random.Generator) -> Spec:
    match one.concept:
        case Look():
            return draw_concept_spec(world.cfg, rng)
        case Style():
            return draw_in_split(world.cfg, "test", rng)
        case _:
            assert_never(one.concept)


def write_folder(world: Shapes, one: Taught, folder: Path) -> Path:
    """Four pictures, each with its caption and the enhanced prompt, and further prompts: what a
    user would have."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = captions(world, one)
    for i, (image, text) in enumerate(zip(to_bytes(pictures(world, one)), texts, strict=True)):
        with replacing(folder / f"{i}.png") as temporary:
            Image.fromarray(image).save(temporary, format="png")
        write_atomic(folder / f"{i}.txt", one.said(text).encode() + b"\n")
        write_atomic(folder / f"{i}.enhanced.txt", one.in_words(text).encode() + b"\n")
    lines = [one.said(text) + "\n" for text in further(world, one)]
    write_atomic(folder / PROMPTS, "".join(lines).encode())
    return folder


def pairs(world: Shapes, names: Sequence[str]) -> Iterator[tuple[Taught, Taught]]:
    """Concepts two by two; the second one of each goes by a word of its own."""
    found = taught(world, names)
    for first, second in zip(found[::2], found[1::2], strict=False):
        yield first, replace(second, word=SECOND)


def write_others(world: Shapes, one: Taught, path: Path) -> Path:
    """Prompts of the world, then those that the concept was learnt by: one a line, OTHERS of
    them."""
    learnt = [one.said(text) for text in captions(world, one) + further(world, one)]
    lines = [*world.prompts("train", OTHERS - len(learnt)), *learnt]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    return path
