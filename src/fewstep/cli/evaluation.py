"""`fewstep eval`: the story of one run, teacher at full and few steps against the student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec, fingerprint, generate
from fewstep.evaluate.grids import Column, write_grid
from fewstep.evaluate.statistics import prompt_weights
from fewstep.evaluate.suite import (
    Comparison,
    Measures,
    Role,
    Row,
    compare,
    evaluate,
    gap_closed,
    measure,
    measure_truth,
    write_evaluation,
)
from fewstep.experiment.builder import load_family, make_world, prompts_of
from fewstep.experiment.config import Experiment
from fewstep.families.base import Family
from fewstep.rng import seed_of

GRID_ROWS = 8


def evaluate_run(
    experiment: Experiment,
    directory: Path,
    student: Path,
    device: torch.device,
    told: Callable[[int, int], None],
) -> Path:
    """Draw, measure and write `evaluation.json` with a grid; UserError without a world."""
    world = make_world(experiment)
    if world is None:
        raise UserError("eval needs a world to judge pictures, but this run has world: none")
    cfg, samples = experiment.eval, experiment.data.samples
    prompts = tuple(dict.fromkeys(prompts_of(experiment, world, cfg.split, cfg.prompts)))
    seeds = tuple(range(cfg.seeds))
    teacher = load_family(experiment.model, device, experiment.dtype, experiment.engine)
    few = experiment.sampling.steps
    models: list[tuple[str, Role, Family, int, float]] = [
        (f"teacher, {samples.steps} steps, w = {samples.guidance:g}", "teacher_full", teacher,
         samples.steps, samples.guidance),
        (f"teacher, {few} steps", "teacher_few", teacher, few, 1.0),
        (f"student, {few} steps", "student",
         load_family(str(student), device, experiment.dtype, experiment.engine), few, 1.0),
    ]  # fmt: skip
    measured: dict[str, Measures] = {}
    specs: list[GenerationSpec] = []
    columns: list[Column] = []
    total = len(models) * len(prompts) * len(seeds)
    for i, (name, role, family, steps, guidance) in enumerate(models):
        spec = GenerationSpec(
            model=name, fingerprint=fingerprint(family.backbone), prompts=prompts, seeds=seeds,
            sigmas=family.sigmas(steps), guidance=guidance,
            height=samples.height, width=samples.width,
        )  # fmt: skip
        before = i * spec.total
        images = generate(
            family, family.backbone, spec, batch_size=cfg.batch,
            progress=lambda done, _, before=before: told(before + done, total),
        )  # fmt: skip
        measured[role] = measure(images, prompts, seeds, world)
        specs.append(spec)
        columns.append(Column(name, images[: GRID_ROWS * len(seeds)]))
    truth = measure_truth(prompts, seeds, world)
    weights = prompt_weights(len(prompts), np.random.default_rng(seed_of("bootstrap")))
    rows = [
        Row(name=name, role=role, metrics=evaluate(measured[role], truth, weights), spec=spec)
        for (name, role, *_), spec in zip(models, specs, strict=True)
    ]
    full, few_steps, ours = (measured[role] for _, role, *_ in models)
    comparisons = [
        Comparison(
            name="share of the KID gap closed", metric="kid_gap_closed", goal=0.8,
            estimate=gap_closed(few_steps, full, ours, truth, weights),
        ),
        *(
            Comparison(name=f"student minus teacher, {name}", metric="adherence", estimate=found)
            for name, found in (
                ("full steps", compare(ours, full, truth, weights)["adherence"]),
                (f"{few} steps", compare(ours, few_steps, truth, weights)["adherence"]),
            )
        ),
    ]  # fmt: skip
    grid = write_grid(directory / "evaluation.png", columns, prompts[:GRID_ROWS], seeds=len(seeds))
    path = directory / "evaluation.json"
    write_evaluation(
        path,
        question=f"Does the {few}-step student draw like its teacher?",
        world=world.name,
        rows=rows,
        comparisons=comparisons,
        grids={grid.name: f"{GRID_ROWS} prompts of the {cfg.split} split, seeds {list(seeds)}"},
        commands=[f"fewstep eval {directory}", f"fewstep report {directory}"],
    )
    return path
