"""`fewstep eval`: the story of one run, from its directory to `evaluation.json` and a grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fewstep.errors import UserError
from fewstep.evaluate.grids import write_grid
from fewstep.evaluate.story import models, tell
from fewstep.evaluate.suite import write_evaluation
from fewstep.experiment.builder import load_family, make_world
from fewstep.experiment.config import Experiment
from fewstep.experiment.prompts import evaluation_prompts


def evaluate_run(
    experiment: Experiment,
    directory: Path,
    student: Path,
    device: torch.device,
    command: str,
    told: Callable[[int, int], None],
) -> Path:
    """Draw, measure and write `evaluation.json` with a grid; `command` is what was typed.

    UserError without a world.
    """
    world = make_world(experiment)
    if world is None:
        raise UserError("eval needs a world to judge pictures, but this run has world: none")
    cfg, samples, few = experiment.eval, experiment.data.samples, experiment.sampling.steps
    prompts = tuple(evaluation_prompts(experiment, world))
    teacher, own = (
        load_family(model, device, experiment.dtype, experiment.engine)
        for model in (experiment.model, str(student))
    )
    asked = models(teacher, own, few=few, full=cfg.full(samples.steps, samples.guidance), cfg=cfg)
    story = tell(
        world, prompts, asked, cfg, height=samples.height, width=samples.width, told=told
    )  # fmt: skip
    grid = write_grid(
        directory / "evaluation.png", story.columns, story.grid_prompts, seeds=story.grid_seeds
    )
    caption = (
        f"{len(story.grid_prompts)} of the {len(prompts)} prompts of the {cfg.split} split, "
        f"{story.grid_seeds} pictures each. The models start a row from the same noise; true "
        "pictures show what was asked in layouts of their own."
    )
    path = directory / "evaluation.json"
    write_evaluation(
        path,
        question=f"Does the {few}-step student draw like its teacher?",
        world=world.name,
        rows=story.rows,
        comparisons=story.comparisons,
        grids={grid.name: caption},
        commands=[command, f"fewstep report {directory}"],
    )
    return path
