"""What `benchmarks.in_context` measures: concepts without a word, drawn after one picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks import common
from benchmarks.common import weights_of

from fewstep.evaluate.generate import GenerationSpec, generate, picture_hash
from fewstep.evaluate.grids import to_bytes
from fewstep.evaluate.statistics import Estimate, estimate, estimate_share, mean
from fewstep.families.base import Family
from fewstep.rng import seed_of
from fewstep.shapes import Pixels
from fewstep.worlds.shapes import judge as judges
from fewstep.worlds.shapes.prompts import (
    CONCEPT,
    Spec,
    draw_concept_spec,
    say,
    scene_for,
    understand,
)
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import Look, draw_concept
from fewstep.worlds.shapes.world import Shapes

CONDITIONS = {
    "own": "shown the concept", "other": "shown another concept", "none": "shown nothing",
    "truth": "true pictures",
}  # fmt: skip
FORMS = ("alone", "sized", "two", "beside something")
GRID_ROWS = 8
NOTE = "a success shows everything asked, hue and outline of the concept, in a new place"


@dataclass(frozen=True)
class Concept:
    """A look without a word, what is asked of it, and a picture of it in another layout."""

    look: Look
    spec: Spec
    prompt: str
    reference: Pixels

    @property
    def form(self) -> str:
        role = next(r for r in self.spec.roles if r.shape == CONCEPT)
        if len(self.spec.roles) > 1:
            return "beside something"
        return "two" if role.count > 1 else "sized" if role.size else "alone"


def unseen(world: Shapes, n: int) -> list[Concept]:
    """The first n concepts of the benchmark; always the same."""
    concepts: list[Concept] = []
    for i in range(n):
        rng = np.random.default_rng(seed_of("unseen concepts", i))
        look = draw_concept(rng)
        spec = draw_concept_spec(world.cfg, rng)
        prompt = say(spec, rng)
        concepts.append(Concept(look, spec, prompt, world.concept_picture(look, rng)))
    return concepts


def groups(prompts: Sequence[str]) -> list[list[int]]:
    """Positions of the prompts, so that none occurs twice in a group: noise hangs on the prompt."""
    times: dict[str, int] = {}
    result: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        turn = times[prompt] = times.get(prompt, -1) + 1
        if turn == len(result):
            result.append([])
        result[turn].append(i)
    return result


def draw(
    family: Family, prompts: Sequence[str], context: Pixels | None, args: argparse.Namespace
) -> Pixels:
    """(concepts x seeds) pictures; a prompt that comes again gets seeds of its own."""
    found: dict[int, Pixels] = {}
    for turn, rows in enumerate(groups(prompts)):
        seen = None if context is None else context[rows]
        spec = GenerationSpec(
            model=args.name, fingerprint="", prompts=tuple(prompts[i] for i in rows),
            seeds=tuple(range(turn * args.seeds, (turn + 1) * args.seeds)),
            sigmas=family.sigmas(args.steps), guidance=args.guidance,
            context=None if seen is None else picture_hash(seen),
        )  # fmt: skip
        pictures = generate(family, family.backbone, spec, batch_size=args.batch, context=seen)
        found |= dict(zip(rows, pictures.split(args.seeds), strict=True))
    return torch.cat([found[i] for i in range(len(prompts))])


def verdicts(
    pictures: Pixels, concepts: Sequence[Concept], shown: Pixels, world: Shapes
) -> dict[str, np.ndarray]:
    """What the judges say of each picture, all seeds of the first concept first.

    "success", "prompt" (everything asked is right), "concept" (an object of its hue and outline),
    "moved" (away from where the reference showed it), "hue" (degrees off), "outline" (IoU).
    """
    seeds = len(pictures) // len(concepts)
    looks = [c.look for c in concepts for _ in range(seeds)]
    prompts = [c.prompt for c in concepts for _ in range(seeds)]
    asked = judges.judge(pictures.numpy(), prompts, world.cfg, looks)["all"]
    own = world.judge_concept(pictures, looks, shown.repeat_interleave(seeds, 0))
    with np.errstate(invalid="ignore"):
        moved = own["moved"] > judges.COPIED
        right = (own["hue"] <= judges.CONCEPT_HUE) & (own["outline"] >= judges.CONCEPT_IOU)
    return {
        "success": asked & moved, "prompt": asked, "concept": right, "moved": moved,
        "hue": own["hue"], "outline": own["outline"],
    }  # fmt: skip


def condition(
    name: str, family: Family, concepts: Sequence[Concept], world: Shapes,
    args: argparse.Namespace, fingerprint: str,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Verdicts of a condition, and "pictures" of the first concepts as bytes; kept."""
    references = torch.cat([c.reference for c in concepts])
    prompts = [c.prompt for c in concepts]

    def compute() -> dict[str, np.ndarray]:
        match name:
            case "own":
                shown, pictures = references, draw(family, prompts, references, args)
            case "other":
                shown = references.roll(-1, 0)
                pictures = draw(family, prompts, shown, args)
            case "none":
                shown, pictures = references, draw(family, prompts, None, args)
            case "truth":
                shown, pictures = references, truth(concepts, world, args.seeds)
            case _:
                raise ValueError(f"condition {name!r} is not one of {', '.join(CONDITIONS)}")
        few = to_bytes(pictures[: GRID_ROWS * args.seeds])
        return verdicts(pictures, concepts, shown, world) | {"pictures": few}

    key = {
        "in context": name, "concepts": len(concepts), "seeds": args.seeds,
        "prompts": prompts, "references": picture_hash(references), "world": common.rules(world),
        "limits": [judges.CONCEPT_HUE, judges.CONCEPT_IOU, judges.COPIED],
    }  # fmt: skip
    if name != "truth":
        key |= {"fingerprint": fingerprint, "engine": args.engine, "guidance": args.guidance,
                "sigmas": list(family.sigmas(args.steps))}  # fmt: skip
    return common.kept(common.roots(args).measured, key, compute)


def truth(concepts: Sequence[Concept], world: Shapes, seeds: int) -> Pixels:
    scenes = [
        scene_for(world.cfg, understand(c.prompt),
                  np.random.default_rng(seed_of("unseen truth", i, seed)), c.look)
        for i, c in enumerate(concepts) for seed in range(seeds)
    ]  # fmt: skip
    return torch.from_numpy(render(scenes, world.cfg.side))


def summary(found: Mapping[str, np.ndarray], n: int) -> dict[str, Estimate]:
    """Shares and means with a bootstrap over the n concepts."""
    seeds = len(found["success"]) // n
    index = np.repeat(np.arange(n), seeds)
    weights = weights_of(n)
    shares = {
        key: estimate_share(mean(found[key], index, weights), n, seeds)
        for key in ("success", "prompt", "concept", "moved")
    }
    errors = {key: estimate(mean(found[key], index, weights), n, seeds)
              for key in ("hue", "outline")}  # fmt: skip
    return shares | errors


def by_form(found: Mapping[str, np.ndarray], concepts: Sequence[Concept]) -> dict[str, Estimate]:
    """Success for each way of asking."""
    seeds = len(found["success"]) // len(concepts)
    forms = np.repeat([c.form for c in concepts], seeds)
    result: dict[str, Estimate] = {}
    for form in FORMS:
        own = found["success"][forms == form]
        if (n := len(own) // seeds) >= 2:
            draws = mean(own, np.repeat(np.arange(n), seeds), weights_of(n))
            result[form] = estimate_share(draws, n, seeds)
    return result
