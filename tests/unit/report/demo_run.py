"""A run directory with invented numbers, written by the same code as a real one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from fewstep.evaluate import suite
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.grids import Column, write_grid
from fewstep.evaluate.statistics import Estimate
from fewstep.runs import Run

FULL = "Teacher, 30 steps, w = 2"
FEW = "Teacher, 4 steps, w = 1"
STUDENT = "Student, 4 steps, w = 1"
COMMAND = "fewstep train ladd_shapes --run.steps 400 --seed 0"
PROMPTS = ("a red circle and a blue square on a white background", "two green triangles",
           "a small yellow star left of a large purple ring")  # fmt: skip


def pictures(blur: int, seed: int, count: int = 9) -> torch.Tensor:
    """Discs on paper, the blurrier the worse the invented model."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:64, 0:64]
    found = np.ones((count, 3, 64, 64), dtype=np.float32) * 0.93
    for image in found:
        for _ in range(2):
            (x, y), radius, colour = rng.uniform(14, 50, 2), rng.uniform(6, 13), rng.random(3)
            distance = np.hypot(rows - y, columns - x) - radius
            inside = 1 / (1 + np.exp(distance * 3 / (1 + blur)))
            image += inside * (colour[:, None, None] - image)
    return torch.from_numpy(found)


def spec(name: str, steps: int, guidance: float) -> GenerationSpec:
    grid = [3 * s / (1 + 2 * s) for s in (1 - i / steps for i in range(steps + 1))]
    return GenerationSpec(
        model=name, fingerprint="0123456789abcdef", prompts=PROMPTS, seeds=(0, 1, 2, 3),
        sigmas=tuple(grid), guidance=guidance,
    )  # fmt: skip


def metrics(kid: float, right: float, spread: float, sharp: float) -> dict[str, Estimate]:
    def near(value: float, half: float) -> Estimate:
        return Estimate(value, value - half, value + half, 128, 4)

    return {
        "kid": near(kid, 0.0008 + 0.08 * kid),
        "adherence": near(right, 0.021),
        "adherence_count": near(min(right + 0.06, 0.99), 0.01),
        "adherence_colour": near(min(right + 0.04, 0.99), 0.01),
        "adherence_shape": near(min(right + 0.02, 0.99), 0.015),
        "layout_diversity": near(spread, 0.035),
        "sharpness": near(sharp, 0.014),
        "high_frequency": near(sharp**2, 0.04),
    }


def demo_run(directory: Path) -> Path:
    """Config, environment, curves, samples, grids and an evaluation."""
    config = "recipe: ladd_shapes\nseed: 0\nmethod:\n  layers: [1, 3, 5]\n  student_every: 2\n"
    with Run.create(directory, config, {"command": COMMAND, "device": "cpu"}) as run:
        rng = np.random.default_rng(0)
        for step in range(400):
            late = 1 - math.exp(-step / 120)
            share = rng.multinomial(8, np.full(5, 0.2)) / 8
            accuracy = np.clip(0.5 + 0.3 * late * np.linspace(1, 0.3, 5), 0, 1)
            run.log(
                step, phase="heads", loss=1.9 - 0.5 * late + 0.1 * rng.normal(),
                grad_norm=1.5 * math.exp(0.3 * rng.normal()),
                real_accuracy=0.5 + 0.25 * late + 0.04 * rng.normal(),
                fake_accuracy=0.5 + 0.2 * late + 0.04 * rng.normal(),
                real_logit=0.4 * late, fake_logit=-0.4 * late, gap=0.8 * late,
                real_accuracy_by_head=[0.5 + late * a for a in (0.1, 0.2, 0.3)],
                gap_by_head=[late * a for a in (0.4, 0.8, 1.1)],
                fake_share_by_sigma=share.tolist(),
                fake_correct_by_sigma=(share * accuracy).tolist(),
            )  # fmt: skip
            if step % 2:
                run.log(step, phase="student", loss=-0.2 * late + 0.1 * rng.normal(),
                        grad_norm=0.5 + 0.1 * rng.normal(), lr=1e-4, ema_decay=0.99)  # fmt: skip
        for step in (0, 200, 400):
            column = Column("", pictures(round(9 - step / 50), 5, 6))
            write_grid(run.samples / f"step_{step:06}.png", [column], [""], seeds=6)
    columns = [
        Column(name, pictures(blur, 3)) for name, blur in ((FULL, 0), (FEW, 7), (STUDENT, 1))
    ]
    write_grid(directory / "grids" / "fixed.png", columns, PROMPTS, seeds=3, tile=96)
    rows = [
        suite.Row(name="True pictures", role="truth", metrics=metrics(0.0, 0.996, 1.0, 1.0)),
        suite.Row(name=FULL, role="teacher_full", metrics=metrics(0.004, 0.957, 0.96, 0.97),
                  spec=spec("teacher", 30, 2.0)),
        suite.Row(name=FEW, role="teacher_few", metrics=metrics(0.052, 0.72, 0.91, 0.71),
                  spec=spec("teacher", 4, 1.0)),
        suite.Row(name=STUDENT, role="student", metrics=metrics(0.011, 0.938, 0.83, 0.96),
                  spec=spec("student", 4, 1.0)),
    ]  # fmt: skip
    comparisons = [
        suite.Comparison(name="Share of the KID gap closed", metric="kid_gap_closed", goal=0.8,
                         estimate=Estimate(0.854, 0.822, 0.881, 128, 4)),
        suite.Comparison(name="Adherence, student minus teacher at full steps",
                         metric="adherence", estimate=Estimate(-0.019, -0.035, -0.004, 128, 4)),
    ]  # fmt: skip
    suite.write_evaluation(
        directory / "evaluation.json",
        question="Does the 4-step student draw like its 30-step teacher?",
        world="shapes",
        rows=rows,
        comparisons=comparisons,
        grids={"grids/fixed.png": "Teacher at full steps, teacher at 4 steps, student at 4 steps."},
        commands=["fewstep eval runs/demo", "fewstep report runs/demo"],
    )
    return directory
