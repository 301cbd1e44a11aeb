"""`fewstep eval RUN`: a run's teacher at full and at few steps and its student."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch

from fewstep.errors import UserError
from fewstep.evaluate.gallery import true_pictures
from fewstep.evaluate.generate import Progress
from fewstep.evaluate.judge import judge, truth_row
from fewstep.evaluate.measures import Instruments
from fewstep.evaluate.results import Evaluation, write_evaluation
from fewstep.evaluate.show import grid
from fewstep.evaluate.story import DISTILLED, REPAIRED
from fewstep.experiment.candidates import Asked, Loader, Means, candidate
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import make_world
from fewstep.experiment.prompts import evaluation_prompts


def evaluate_run(
    experiment: Experiment, directory: Path, student: Path, device: torch.device, command: str,
    told: Progress,
) -> Path:  # fmt: skip
    """Draw, measure and write `evaluation.json` with a grid; `command` is what was typed.

    UserError without a world.
    """
    world = make_world(experiment)
    if world is None:
        raise UserError(
            "a run with world: none has no truth to be held against; compare models with "
            "`fewstep eval MODEL MODEL --suite quick --reference MODEL`"
        )
    cfg, samples, few = experiment.eval, experiment.data.samples, experiment.sampling.steps
    prompts = tuple(evaluation_prompts(experiment, world))
    height, width = experiment.data.size()
    means = Means(
        folder=directory / "pictures", device=device, dtype=experiment.dtype,
        engine=experiment.engine, batch=cfg.batch, height=height, width=width,
    )  # fmt: skip
    load = Loader(means)
    full, w = cfg.full(samples.steps, samples.guidance)
    told_as = DISTILLED if experiment.teacher is None else REPAIRED
    model, teacher, own = experiment.model, experiment.teacher or experiment.model, str(student)
    most, least = tuple(range(cfg.seeds)), tuple(range(cfg.full_seeds or cfg.seeds))
    wanted = [
        (Asked(text=teacher, source=teacher, name="teacher", steps=full, guidance=w,
               role="teacher_full"), least),
        (Asked(text=model, source=model, name=told_as.start, steps=few, role="teacher_few"), most),
        (Asked(text=own, source=own, name=told_as.end, steps=few, role="student"), most),
    ]  # fmt: skip
    candidates = [
        truth_row(world, prompts, most),
        *(candidate(asked, prompts, seeds, load, means) for asked, seeds in wanted),
    ]
    reference = true_pictures(world, prompts, most)
    instruments = Instruments(features={"shapes": world.features})
    judged = judge(candidates, reference, world, instruments, told)
    picture, caption = grid(judged, directory / "evaluation.png")
    path = directory / "evaluation.json"
    evaluation = Evaluation(
        suite="run", question=told_as.question.format(steps=few), world=world.name,
        rows=judged.rows, comparisons=told_as.compare(judged), grids={picture.name: caption},
        notes=judged.notes, commands=[command, shlex.join(["fewstep", "report", str(directory)])],
    )  # fmt: skip
    write_evaluation(path, evaluation)
    return path
