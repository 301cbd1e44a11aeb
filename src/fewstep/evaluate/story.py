"""The story of a run: true pictures, the teacher at full and at few steps, and the student.

All rows share prompts, and the models share noise: seed s of a prompt starts from the same eps in
each. The truth has a row of its own, made with other seeds than the reference, so that every
metric shows what it gives for perfect pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.evaluate.generate import GenerationSpec, Progress, fingerprint, generate, silent
from fewstep.evaluate.grids import Column
from fewstep.evaluate.statistics import Weights, prompt_weights
from fewstep.evaluate.suite import (
    FRESH,
    Comparison,
    Measures,
    Role,
    Row,
    compare,
    evaluate,
    gap_closed,
    measure,
    measure_truth,
    pairs,
)
from fewstep.families.base import Family
from fewstep.rng import seed_of
from fewstep.shapes import Pixels
from fewstep.worlds.base import World

GRID_ROWS, GRID_SEEDS = 8, 2
"""What the grid shows of it all."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What `fewstep eval` draws: all models on the same prompts.

    A Shapes picture takes 14 ms of one CPU thread, and 3.3 ms for each model call (engine fused).
    """

    split: Literal["val", "test", "heldout"] = "test"
    prompts: int = 128
    seeds: int = 4
    """Pictures of each prompt: true ones, and those at few steps."""
    full_seeds: int | None = None
    """The same for the teacher at full steps, whose pictures cost most; none is as many."""
    full_steps: int | None = None
    """Steps of that teacher; none takes those of the samples that the student learned from."""
    full_guidance: float | None = None
    """Its w, likewise."""
    batch: int = 32

    def __post_init__(self) -> None:
        for name, least in (("prompts", MIN_PROMPTS), ("seeds", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"eval.{name} must be >= {least}, got {getattr(self, name)}")
        if self.full_seeds is not None and not 1 <= self.full_seeds <= self.seeds:
            raise ValueError(
                f"eval.full_seeds must lie in 1 .. seeds = {self.seeds}, got {self.full_seeds}"
            )
        if self.full_steps is not None and self.full_steps < 1:
            raise ValueError(f"eval.full_steps must be >= 1, got {self.full_steps}")

    def full(self, steps: int, guidance: float) -> tuple[int, float]:
        """Steps and w of the teacher at full steps; given are those of its samples."""
        return (
            steps if self.full_steps is None else self.full_steps,
            guidance if self.full_guidance is None else self.full_guidance,
        )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A row to draw."""

    name: str
    role: Role
    family: Family
    steps: int
    guidance: float
    seeds: int

    def spec(self, prompts: Sequence[str], height: int, width: int) -> GenerationSpec:
        return GenerationSpec(
            model=self.name, fingerprint=fingerprint(self.family.backbone), prompts=tuple(prompts),
            seeds=tuple(range(self.seeds)), sigmas=self.family.sigmas(self.steps),
            sampler=self.family.sampler,
            guidance=self.guidance, height=height, width=width,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is to be written; `columns` hold `grid_seeds` pictures of each of `grid_prompts`."""

    rows: list[Row]
    comparisons: list[Comparison]
    columns: list[Column]
    grid_prompts: tuple[str, ...]
    grid_seeds: int


def models(
    teacher: Family, student: Family, *, few: int, full: tuple[int, float], cfg: EvalConfig
) -> list[Model]:
    """The three models of the story; `full` is (steps, w), and few steps go without guidance."""
    steps, w = full
    most = cfg.full_seeds or cfg.seeds
    return [
        Model(name=f"teacher, {steps} steps, w = {w:g}", role="teacher_full", family=teacher,
              steps=steps, guidance=w, seeds=most),
        Model(name=f"teacher, {few} steps", role="teacher_few", family=teacher,
              steps=few, guidance=1.0, seeds=cfg.seeds),
        Model(name=f"student, {few} steps", role="student", family=student,
              steps=few, guidance=1.0, seeds=cfg.seeds),
    ]  # fmt: skip


def tell(
    world: World, prompts: Sequence[str], asked: Sequence[Model], cfg: EvalConfig, *,
    height: int = 64, width: int = 64, told: Progress = silent,
) -> Story:  # fmt: skip
    """Draw and measure everything. `asked` holds one model of each role but the truth."""
    seeds = range(cfg.seeds)
    truth = measure_truth(prompts, seeds, world)
    weights = prompt_weights(len(prompts), np.random.default_rng(seed_of("bootstrap")))
    tiles = min(GRID_SEEDS, *(model.seeds for model in asked))

    fresh = [seed + FRESH for seed in seeds]
    images = world.truth(*pairs(prompts, fresh))
    again = measure(images, prompts, fresh, world)
    rows = [Row(name="true pictures", role="truth", metrics=evaluate(again, truth, weights))]
    columns = [Column("true pictures", first(images, cfg.seeds, tiles))]

    measured: dict[Role, Measures] = {}
    done, total = 0, len(prompts) * sum(model.seeds for model in asked)
    for model in asked:
        spec = model.spec(prompts, height, width)
        images = generate(
            model.family, model.family.backbone, spec, batch_size=cfg.batch,
            progress=lambda own, _, before=done: told(before + own, total),
        )  # fmt: skip
        done += spec.total
        found = measured[model.role] = measure(images, prompts, spec.seeds, world)
        metrics = evaluate(found, truth, weights)
        rows.append(Row(name=model.name, role=model.role, metrics=metrics, spec=spec))
        columns.append(Column(model.name, first(images, model.seeds, tiles)))
    return Story(
        rows=rows, comparisons=comparisons(asked, measured, truth, weights), columns=columns,
        grid_prompts=tuple(prompts[:GRID_ROWS]), grid_seeds=tiles,
    )  # fmt: skip


def first(images: Pixels, seeds: int, shown: int) -> Pixels:
    """The first `shown` of `seeds` pictures of each of the first prompts."""
    return images.unflatten(0, (-1, seeds))[:GRID_ROWS, :shown].flatten(0, 1)


def comparisons(
    asked: Sequence[Model], measured: dict[Role, Measures], truth: Measures, weights: Weights
) -> list[Comparison]:
    """How far the student went from few to full steps, and what it lost or won on either."""
    full, few, student = (measured[r] for r in ("teacher_full", "teacher_few", "student"))
    found = [
        Comparison(
            name="share of the KID gap closed", metric="kid_gap_closed", goal=0.8,
            estimate=gap_closed(few, full, student, truth, weights),
        )
    ]  # fmt: skip
    for model in asked:
        if model.role == "student":
            continue
        minus = compare(student, measured[model.role], truth, weights)
        for metric in ("adherence", "layout_diversity"):
            what = f"{metric.replace('_', ' ')}, student minus {model.name}"
            found.append(Comparison(name=what, metric=metric, estimate=minus[metric]))
    return found
