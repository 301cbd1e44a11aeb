"""How a trained student is judged: on prompts, noise and a reference that all trials share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.evaluate.features import make_extractors
from fewstep.evaluate.gallery import Pictures, true_pictures
from fewstep.evaluate.generate import Progress, silent
from fewstep.evaluate.judge import Candidate, check_size, size_of
from fewstep.evaluate.measures import Instruments, Measures, measure
from fewstep.evaluate.metrics import draws
from fewstep.evaluate.statistics import Weights, prompt_weights
from fewstep.experiment.candidates import Asked, Loader, Means, candidate
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import choose_device, make_world
from fewstep.experiment.prompts import evaluation_prompts
from fewstep.rng import seed_of
from fewstep.sweep.plan import Plan
from fewstep.worlds.base import World


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What every student of a sweep is held against; made once a worker."""

    keys: tuple[str, ...]
    """Of metrics, the score first."""
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    """Sampling seeds."""
    device: torch.device
    world: World | None
    reference: Pictures
    """True ones, or the teacher's where there is no truth."""
    measures: Measures
    """Of the reference."""
    weights: Weights
    instruments: Instruments


def yardstick(plan: Plan, directory: Path, told: Progress = silent) -> Yardstick:
    """UserError where there are not so many prompts. The teacher's pictures, where they are needed,
    are drawn by the first worker and found by the others."""
    world, device = make_world(plan.base), choose_device(plan.base)
    asked = replace(plan.base.eval, split="val", prompts=plan.prompts)
    prompts = tuple(evaluation_prompts(replace(plan.base, eval=asked), world))
    seeds = tuple(range(plan.pictures))
    features: dict[str, Any] = {}
    if plan.extractor is not None:
        features = {own.name: own for own in make_extractors([plan.extractor], device)}
    elif world is not None:
        features = {"shapes": world.features}
    if world is not None:
        reference = true_pictures(world, prompts, seeds)
    else:
        with alone(directory / "reference"):
            drawn = teacher(plan.base, directory / "reference", prompts, seeds, device)
            reference = drawn.draw(told).pictures
    instruments = Instruments(features=features)
    return Yardstick(
        keys=plan.keys, prompts=prompts, seeds=seeds, device=device, world=world,
        reference=reference, measures=measure(reference, world, instruments),
        weights=prompt_weights(len(prompts), np.random.default_rng(seed_of("bootstrap"))),
        instruments=instruments,
    )  # fmt: skip


def means_of(experiment: Experiment, folder: Path, device: torch.device) -> Means:
    height, width = experiment.data.size()
    return Means(
        folder=folder, device=device, dtype=experiment.dtype, engine=experiment.engine,
        batch=experiment.eval.batch, height=height, width=width,
    )  # fmt: skip


def teacher(
    base: Experiment, folder: Path, prompts: tuple[str, ...], seeds: tuple[int, ...],
    device: torch.device,
) -> Candidate:  # fmt: skip
    """At the steps and guidance of the samples that students learn from."""
    steps, w = base.eval.full(base.data.samples.steps, base.data.samples.guidance)
    source = base.teacher or base.model
    asked = Asked(text=source, source=source, name="teacher", steps=steps, guidance=w)
    means = means_of(base, folder, device)
    return candidate(asked, prompts, seeds, Loader(means), means)


def see(
    stick: Yardstick, experiment: Experiment, run: Path, told: Progress = silent
) -> Mapping[str, np.ndarray]:
    """(1 + replicates,) by metric of the student that a finished run has exported, at the steps
    that it was trained for; pictures stay in the run. UserError where there is no score; what else
    pictures do not show (layouts of a model that draws nothing) is NaN."""
    asked = Asked(
        text=str(run), source=str(run / "model"), name="student",
        steps=experiment.sampling.steps, role="student",
    )  # fmt: skip
    own = replace(experiment.eval, split="val", prompts=len(stick.prompts))
    evaluation_prompts(replace(experiment, eval=own), stick.world)  # none of which it trains on
    means = means_of(experiment, run / "pictures", stick.device)
    row = candidate(asked, stick.prompts, stick.seeds, Loader(means), means)
    pictures = row.draw(told).pictures
    check_size("the student", pictures, size_of(stick.reference))
    measures = measure(pictures, stick.world, stick.instruments)
    found = draws(measures, stick.measures, stick.weights)
    if not np.isfinite(found[stick.keys[0]][0]):
        raise UserError(f"its pictures have no {stick.keys[0].replace('_', ' ')}")
    unknown = np.full(len(stick.weights), np.nan)  # one picture of a prompt has no diversity
    return {key: found.get(key, unknown) for key in stick.keys}


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Wall time of the steps of a run, from its metrics, whatever it was interrupted by."""
    total, before = 0.0, 0
    for row in rows:
        if row["phase"] == "loop":
            total += row["seconds_per_step"] * (row["step"] - before)
            before = row["step"]
    return total
