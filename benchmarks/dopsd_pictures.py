"""What the arms of a study draw of a concept, side by side: the same prompts and the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from benchmarks.dopsd_concepts import Kind, Taught, pictures
from benchmarks.dopsd_judge import Judge, View
from benchmarks.dopsd_plan import Task
from benchmarks.dopsd_rows import Row
from benchmarks.picture_rows import Block, write_rows

from fewstep.evaluate.generate import generate, picture_hash
from fewstep.families.zimage import ZImage
from fewstep.rng import seed_of
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.prompts import scene_for, understand
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.world import Shapes

Drawn = Mapping[View, Pixels]
"""Of one model: a picture of each prompt."""
KINDS: tuple[Kind, ...] = ("hue", "outline", "both")
"""Of each, one concept is shown."""
PROMPTS: Mapping[View, int] = {"few": 8, "many": 4}
"""How many of the novel prompts."""


def write_pictures(name: str, tasks: Sequence[Task], rows: Sequence[Row], judge: Judge) -> str:
    """A PNG for each concept shown, and the text that shows them; a study of one arm has none."""
    shown = chosen(tasks, rows)
    if not shown or len({task.arm.name for task in tasks}) == 1:
        return ""
    steps = {view: len(judge.ways[view].sigmas) - 1 for view in judge.views}
    text = (
        "Each column is one prompt with one noise, [V] standing for the concept; the rows are true "
        "pictures, the student before training, and each arm's run of the first training seed, at "
        f"{steps['few']} steps"
    )
    if "many" in steps:
        text += f" and, the first {PROMPTS['many']} prompts again, at {steps['many']}"
    text += ".\n\n"
    for one in shown:
        drawn = drawings(one, tasks, rows, judge)
        blocks = [
            Block(f"{one.name}, {steps[view]} steps", asked(one, view, judge.texts(one)),
                  [own[view] for own in drawn.values()])
            for view in judge.views
        ]  # fmt: skip
        path = judge.where.docs / "figures" / f"dopsd_{name}_pictures_{one.name}.png"
        write_rows(path, list(drawn), blocks)
        text += f"![What is drawn of {one.name}](figures/{path.name})\n\n"
    return text


def chosen(tasks: Sequence[Task], rows: Sequence[Row]) -> list[Taught]:
    """The first concept of each kind that a run has learnt."""
    concepts = dict.fromkeys(task.taught for task in tasks)
    learnt = [one for one in concepts if finished(rows, one)]
    firsts = [[one for one in learnt if one.kind == kind][:1] for kind in KINDS]
    return [one for first in firsts for one in first]


def first_seed(rows: Sequence[Row], one: Taught) -> int | None:
    """The first training seed that the concept was learnt with, if it was."""
    seeds = (seed for row in rows for name, seed in row.results if name == one.name)
    return min(seeds, default=None)


def finished(rows: Sequence[Row], one: Taught) -> list[Row]:
    """Those whose run of the concept, with the first training seed, has left a model."""
    seed = first_seed(rows, one)
    runs = [(row, r) for row in rows for key, r in row.results.items() if key == (one.name, seed)]
    return [row for row, result in runs if result.failed is None]


def asked(one: Taught, view: View, texts: Sequence[str]) -> tuple[str, ...]:
    """The prompts of a view as models read them."""
    return tuple(map(one.said, texts[: PROMPTS[view]]))


def drawings(
    one: Taught, tasks: Sequence[Task], rows: Sequence[Row], judge: Judge
) -> dict[str, Drawn]:
    """What the rows show, by their names."""
    first = (one, first_seed(rows, one))
    runs = {task.arm.name: task.directory(judge.runs)
            for task in tasks if (task.taught, task.seed) == first}  # fmt: skip
    truth = true_pictures(judge.world, one, judge.texts(one)[: PROMPTS["few"]])
    found: dict[str, Drawn] = {
        "true picture": {view: truth[: PROMPTS[view]] for view in judge.views},
        "in context, before": draw(one, judge.student, judge, pictures(judge.world, one)[:1]),
        "told alone, before": draw(one, judge.student, judge),
    }
    for row in finished(rows, one):
        found[row.label] = draw(one, judge.load(str(runs[row.arm.name] / "model")), judge)
    return found


def true_pictures(world: Shapes, one: Taught, texts: Sequence[str]) -> Pixels:
    """Of these prompts of the world, from a stream of their own."""
    scenes = [
        scene_for(world.cfg, understand(text),
                  np.random.default_rng(seed_of("taught truth", one.name, i)), one.concept)
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return torch.from_numpy(render(scenes, world.cfg.side))


def draw(one: Taught, family: ZImage, judge: Judge, beside: Pixels | None = None) -> Drawn:
    """With the first seed that is judged; each prompt read beside the picture if there is one."""
    found: dict[View, Pixels] = {}
    for view in judge.views:
        spec = judge.spec(family, view, asked(one, view, judge.texts(one)))
        spec = replace(spec, seeds=judge.seeds[:1])
        context = None if beside is None else beside[[0] * len(spec.prompts)]
        if context is not None:
            spec = replace(spec, context=picture_hash(context))
        found[view] = generate(
            family, family.backbone, spec, batch_size=judge.args.batch, context=context
        )
    return found
