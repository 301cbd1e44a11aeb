"""The suite: what is measured of an image set against the truth, and how results are written.

An image set is measured once (`measure`); everything else is arithmetic on what that returned.

`evaluation.json`, which `fewstep.report` reads, is

    {"schema": 1, "question": str, "world": str, "commands": [str],
     "rows": [{"name": str, "role": str, "spec": {...}, "metrics": {metric: estimate}}],
     "comparisons": [{"name": str, "metric": str, "goal": number or null, "estimate": estimate}],
     "grids": [{"file": path inside the run, "caption": str}]}

with estimate = {"value", "low", "high", "n_prompts", "n_seeds", "n_runs"}, null where undefined.
The comparison with the metric "kid_gap_closed" carries the report's verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluate import diversity, fidelity, quality
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.statistics import (
    Draws,
    Estimate,
    Index,
    Weights,
    estimate,
    estimate_share,
    mean,
)
from fewstep.runs import write_atomic
from fewstep.shapes import Pixels
from fewstep.worlds.base import World

Role = Literal["truth", "teacher_full", "teacher_few", "student", "other"]
"""What a row is in the story: the report asks how far the student went from few to full."""

FRESH = 1_000_000
"""Added to the seeds of true pictures that are held against the truth."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What one image set looked like; row i belongs to prompt index[i]."""

    prompts: tuple[str, ...]
    n_seeds: int
    index: Index
    features: NDArray[np.float64]
    adherence: Mapping[str, NDArray[np.bool_]]
    layout_distance: NDArray[np.float64]
    """(prompts,): of `diversity.pairwise`."""
    sharpness: NDArray[np.float64]
    high_frequency: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model in the table."""

    name: str
    role: Role
    metrics: Mapping[str, Estimate]
    spec: GenerationSpec | None = None
    """How its images were made; None for the truth."""

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "role": self.role,
            "spec": self.spec.to_json() if self.spec else None,
            "metrics": {key: value.to_json() for key, value in self.metrics.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A number about two or more rows, on the same prompts, seeds and resamples."""

    name: str
    metric: str
    estimate: Estimate
    goal: float | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "metric": self.metric,
            "goal": self.goal,
            "estimate": self.estimate.to_json(),
        }


def pairs(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    """Prompt and seed of each image of prompts x seeds, in the order of `generate`."""
    return [p for p in prompts for _ in seeds], [s for _ in prompts for s in seeds]


def measure(images: Pixels, prompts: Sequence[str], seeds: Sequence[int], world: World) -> Measures:
    """Measure images of prompts x seeds, all seeds of the first prompt first.

    Raises ValueError if there is not one image for each pair.
    """
    if len(images) != len(prompts) * len(seeds):
        raise ValueError(
            f"images must be one for each of {len(prompts)} prompts x {len(seeds)} seeds, "
            f"got {len(images)}"
        )
    asked, _ = pairs(prompts, seeds)
    index = np.repeat(np.arange(len(prompts)), len(seeds))
    return Measures(
        prompts=tuple(prompts),
        n_seeds=len(seeds),
        index=index,
        features=world.features(images),
        adherence=world.adherence(images, asked),
        layout_distance=diversity.pairwise(world.layouts(images, asked), index, len(prompts)),
        sharpness=quality.sharpness(images),
        high_frequency=quality.high_frequency(images),
    )


def measure_truth(prompts: Sequence[str], seeds: Sequence[int], world: World) -> Measures:
    """Measure true pictures of prompts x seeds: the reference of every ratio and distance."""
    return measure(world.truth(*pairs(prompts, seeds)), prompts, seeds, world)


def draws(model: Measures, truth: Measures, weights: Weights) -> dict[str, Draws]:
    """Draws of every metric of a model; with the same weights, those of two models are paired."""
    if model.prompts != truth.prompts:
        raise ValueError("model and truth must be made from the same prompts in the same order")
    if weights.shape[1] != len(truth.prompts):
        raise ValueError(
            f"weights are for {weights.shape[1]} prompts, the images for {len(truth.prompts)}"
        )
    kernels = fidelity.prompt_kernels(model.features, model.index, truth.features, truth.index)
    right = {
        "adherence" if part == "all" else f"adherence_{part}": mean(ok, model.index, weights)
        for part, ok in model.adherence.items()
    }
    return {
        "kid": fidelity.kid(kernels, weights),
        **right,
        "layout_diversity": diversity.ratio(model.layout_distance, truth.layout_distance, weights),
        "sharpness": mean(model.sharpness, model.index, weights)
        / mean(truth.sharpness, truth.index, weights),
        "high_frequency": mean(model.high_frequency, model.index, weights)
        / mean(truth.high_frequency, truth.index, weights),
    }


def evaluate(model: Measures, truth: Measures, weights: Weights) -> dict[str, Estimate]:
    """Every metric of a model: KID and adherence; diversity and sharpness relative to the truth."""
    size = len(model.prompts), model.n_seeds
    return {
        key: (estimate_share if key.startswith("adherence") else estimate)(found, *size)
        for key, found in draws(model, truth, weights).items()
    }


def compare(a: Measures, b: Measures, truth: Measures, weights: Weights) -> dict[str, Estimate]:
    """Paired differences a - b of every metric."""
    of_a, of_b = draws(a, truth, weights), draws(b, truth, weights)
    size = len(a.prompts), min(a.n_seeds, b.n_seeds)
    return {key: estimate(of_a[key] - of_b[key], *size) for key in of_a}


def gap_closed(
    start: Measures, end: Measures, student: Measures, truth: Measures, weights: Weights
) -> Estimate:
    """Share of the KID gap between start and end (the teacher at few, at all steps) closed.

    The sets may differ in seeds, for KID does not depend on their number; the fewest are stated.
    """
    sets = (start, end, student)
    kids = [draws(m, truth, weights)["kid"] for m in sets]
    fewest = min(m.n_seeds for m in sets)
    return estimate(fidelity.gap_closed(*kids), len(student.prompts), fewest)


def write_evaluation(
    path: Path,
    *,
    question: str,
    world: str,
    rows: Sequence[Row],
    comparisons: Sequence[Comparison] = (),
    grids: Mapping[str, str] | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Write `evaluation.json` whole or not at all; `grids` maps files in the run to captions."""
    record = {
        "schema": 1,
        "question": question,
        "world": world,
        "commands": list(commands),
        "rows": [row.to_json() for row in rows],
        "comparisons": [c.to_json() for c in comparisons],
        "grids": [{"file": file, "caption": text} for file, text in (grids or {}).items()],
    }
    write_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode() + b"\n")
