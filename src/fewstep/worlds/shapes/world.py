"""The Shapes world as a `World`: prompts, true pictures, and the judges of generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.rng import seed_of
from fewstep.shapes import Pixels
from fewstep.worlds.shapes import judge
from fewstep.worlds.shapes.count import count_prompts
from fewstep.worlds.shapes.features import ShapesFeatures, extract, load_features
from fewstep.worlds.shapes.prompts import (
    CATEGORIES,
    category,
    draw_concept_spec,
    draw_in_split,
    look_of,
    say,
    scene_for,
    understand,
)
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import (
    CROWDED,
    HARD,
    PAIRS,
    Look,
    Scene,
    Wanted,
    WorldConfig,
    draw_concept,
    draw_scene,
)

DOUBT, PATIENCE = 50, 1000
"""Draws without a new text after which the texts of a split are counted, and after which those that
are left are taken to be too rare."""


LEVELS = {
    "shapes": WorldConfig(),
    "shapes-pairs": PAIRS,
    "shapes-crowded": CROWDED,
    "shapes-hard": HARD,
}
"""The levels that a config can name."""


class Shapes:
    """One level of difficulty of the Shapes world; satisfies `worlds.base.World`."""

    def __init__(self, cfg: WorldConfig | None = None, name: str = "shapes") -> None:
        self.cfg = cfg or WorldConfig()
        self.name = name

    def prompts(self, split: str, n: int) -> list[str]:
        """The first n draws of a split, no text twice; UserError where it has not so many.

        A meaning may come again in another phrasing, which keeps the list near the distribution of
        the draws. Still a long list is harder than a short one: what is asked most often is used
        up first (of the first 100, 200 and 400 test prompts 34, 23 and 14 % ask for one object),
        so figures are comparable only at the same n.
        """
        rng = np.random.default_rng(seed_of("prompts", split))
        prompts: dict[str, None] = {}
        while len(prompts) < n:
            for drawn in range(PATIENCE):
                prompt = say(draw_in_split(self.cfg, split, rng), rng)
                if prompt not in prompts:
                    break
                if drawn == DOUBT and (there := count_prompts(self.cfg, split)) < n:
                    raise UserError(
                        f"the {split} split of this level of Shapes has {there} prompts, {n} were "
                        "asked for: ask for fewer"
                    )
            else:
                raise UserError(
                    f"the {split} split of this level of Shapes gives only some {len(prompts)} "
                    f"prompts, the others are too rare to be drawn; {n} were asked for: ask for "
                    "fewer"
                )
            prompts[prompt] = None
        return list(prompts)

    def check(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            try:
                for role in understand(prompt).roles:
                    look_of(role, None)
            except ValueError as error:
                raise ValueError(f"the world cannot read the prompt {prompt!r} ({error})") from None

    def truth(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """(n, 3, side, side): picture i is drawn for prompts[i] with seeds[i] and nothing else."""
        scenes = [
            scene_for(
                self.cfg,
                understand(prompt),
                np.random.default_rng(seed_of("truth", prompt, seed)),
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return torch.from_numpy(render(scenes, self.cfg.side))

    def in_context(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], Pixels]:
        """One pair in two keeps its prompt; the other becomes a request for a concept without a
        word, with a picture of it in another layout."""
        texts: list[str] = []
        scenes: list[Scene] = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            rng = np.random.default_rng(seed_of("in context", prompt, seed))
            if rng.random() < 0.5:
                look = draw_concept(rng)
                texts.append(say(draw_concept_spec(self.cfg, rng), rng))
                scenes.append(draw_scene(self.cfg, (Wanted(look),), None, None, rng))
            else:
                texts.append(prompt)
                scenes.append(scene_for(self.cfg, understand(prompt), rng))
        return texts, torch.from_numpy(render(scenes, self.cfg.side))

    def adherence(self, images: Pixels, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        return judge.judge(as_array(images), prompts, self.cfg)

    def categories(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        kinds = [category(understand(prompt)) for prompt in prompts]
        return {name: np.array([k == name for k in kinds]) for name in CATEGORIES if name in kinds}

    def layouts(self, images: Pixels, prompts: Sequence[str]) -> np.ndarray:
        return judge.layouts(as_array(images), prompts, self.cfg)

    def features(self, images: Pixels) -> np.ndarray:
        return extract(self.extractor, images)

    def concept_picture(self, look: Look, rng: np.random.Generator) -> Pixels:
        """(1, 3, side, side): a concept alone, in a new layout on any background."""
        scene = draw_scene(self.cfg, (Wanted(look),), None, None, rng)
        return torch.from_numpy(render([scene], self.cfg.side))

    def judge_concept(
        self, images: Pixels, looks: Sequence[Look], references: Pixels | None = None
    ) -> dict[str, np.ndarray]:
        """How well each picture shows its concept in a new layout; see `judge.judge_concept`."""
        shown = None if references is None else as_array(references)
        return judge.judge_concept(as_array(images), looks, shown, self.cfg)

    @cached_property
    def extractor(self) -> ShapesFeatures:
        return load_features()


def as_array(images: Tensor) -> np.ndarray:
    return images.detach().float().cpu().numpy()
