"""Run directories with invented numbers and everything in them, written as real ones are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fewstep.evaluate import results
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.grids import Column, write_grid, write_sheet
from fewstep.evaluate.results import Cost, Point, Row, Sheet
from fewstep.evaluate.statistics import Estimate
from fewstep.runs import Run

FULL = "Teacher, 30 steps, w = 2"
FEW = "Teacher, 4 steps, w = 1"
STUDENT = "Student, 4 steps, w = 1"
COMMAND = "fewstep train ladd_shapes --run.steps 400 --seed 0"
PROMPTS = ("a red circle and a blue square on a white background", "two green triangles",
           "a small yellow star left of a large purple ring")  # fmt: skip
NOTES = ("The preference score was not measured: its model is not in the cache.",)


@dataclass(frozen=True, kw_only=True)
class Invented:
    """What sets one invented run apart from another."""

    seed: int = 0
    lr: float = 1e-4
    gap: float = 0.3
    """Where the heads' gap ends."""
    closed: float = 0.854
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    prompts: tuple[str, ...] = PROMPTS


def pictures(blur: int, seed: int, count: int = 9, apart: float = 1.0) -> torch.Tensor:
    """Discs on paper, the blurrier the worse the invented model; `apart` 0 puts all alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:64, 0:64]
    found = np.ones((count, 3, 64, 64), dtype=np.float32) * 0.93
    colours = rng.random((2, 3))
    for image in found:
        for colour in colours:
            (x, y), radius = 32 + apart * rng.uniform(-18, 18, 2), rng.uniform(6, 13)
            distance = np.hypot(rows - y, columns - x) - radius
            inside = 1 / (1 + np.exp(distance * 3 / (1 + blur)))
            image += inside * (colour[:, None, None] - image)
    return torch.from_numpy(found)


def spec(name: str, steps: int, guidance: float, run: Invented, hashed: str) -> GenerationSpec:
    grid = [3 * s / (1 + 2 * s) for s in (1 - i / steps for i in range(steps + 1))]
    return GenerationSpec(
        model=name, fingerprint=hashed, prompts=run.prompts, seeds=run.seeds,
        sigmas=tuple(grid), guidance=guidance,
    )  # fmt: skip


def near(value: float, half: float, n_seeds: int = 4) -> Estimate:
    return Estimate(value, value - half, value + half, 128, n_seeds)


def metrics(kid: float, right: float, spread: float, sharp: float, n: int) -> dict[str, Estimate]:
    return {
        "kid": near(kid, 0.0008 + 0.08 * kid, n),
        "adherence": near(right, 0.021, n),
        "adherence_count": near(min(right + 0.06, 0.98), 0.01, n),
        "adherence_colour": near(min(right + 0.04, 0.98), 0.01, n),
        "adherence_shape": near(min(right + 0.02, 0.98), 0.015, n),
        "category_single": near(min(right + 0.03, 0.98), 0.02, n),
        "category_relation": near(right - 0.2, 0.05, n),
        "layout_diversity": near(spread, 0.035, n),
        "sharpness": near(sharp, 0.014, n),
        "high_frequency": near(sharp**2, 0.04, n),
        "cross_prompt": near(0.5 + 0.5 * spread, 0.01, n),
    }


def curves() -> list[results.Curve]:
    """Quality kept over the steps of the sampler, and diversity against quality."""

    def line(*points: tuple[str, float, float]) -> list[Point]:
        return [Point(label=name, x=near(x, 0.03), y=near(y, 0.02)) for name, x, y in points]

    def steps(*kept: float) -> list[Point]:
        return [
            Point(label=f"{n}", x=Estimate(n, math.nan, math.nan, 128, 4), y=near(y, 0.02))
            for n, y in zip((1, 2, 4, 8, 16), kept, strict=True)
        ]

    return [
        results.Curve(
            title="Retention over steps", caption="Adherence as the sampler takes more steps.",
            x="steps", y="adherence", lines={
                "Teacher": steps(0.12, 0.41, 0.72, 0.88, 0.95),
                "Student": steps(0.71, 0.88, 0.938, 0.93, 0.91),
            },
        ),
        results.Curve(
            title="Diversity against quality", caption="Up and to the right is better.",
            x="layout diversity", y="adherence", lines={
                "Teacher": line(("w = 1", 0.97, 0.86), ("w = 2", 0.93, 0.957), ("w = 4", 0.7, 0.9)),
                "Student": line(("strength 0", 0.91, 0.72), ("0.5", 0.87, 0.9), ("1", 0.8, 0.938)),
            },
        ),
    ]  # fmt: skip


def demo_run(directory: Path, run: Invented | None = None) -> Path:
    """Config, environment, training curves, samples and an evaluation with all that it can hold."""
    run = run or Invented()
    config = (
        f"recipe: ladd_shapes\nseed: {run.seed}\nmethod:\n  layers: [1, 3, 5]\n  student_every: 2\n"
        f"optim:\n  student:\n    lr: {run.lr:.1e}\n"
    )
    facts = {"command": COMMAND, "device": "cpu"}
    with Run.create(directory, config, facts) as opened:
        log_training(opened, run)
        for step in (0, 200, 400):
            column = Column("", pictures(round(9 - step / 50), 5 + run.seed, 6))
            write_grid(opened.samples / f"step_{step:06}.png", [column], [""], seeds=6, tile=64)
    return demo_evaluation(directory, run)


def log_training(opened: Run, run: Invented) -> None:
    rng = np.random.default_rng(run.seed)
    for step in range(400):
        late = 1 - math.exp(-step / 120)
        share = rng.multinomial(8, np.full(5, 0.2)) / 8
        accuracy = np.clip(0.5 + 0.3 * late * np.linspace(1, 0.3, 5), 0, 1)
        # heads alone up to step 50, then the student fools them, then they win ground
        gap = 1.2 * step / 50 if step < 50 else 1.2 * math.exp((50 - step) / 20) + run.gap * late
        opened.log(
            step, phase="heads", loss=1.9 - 0.5 * late + 0.1 * rng.normal(),
            grad_norm=1.5 * math.exp(0.3 * rng.normal()),
            real_accuracy=0.5 + 0.25 * late + 0.04 * rng.normal(),
            fake_accuracy=0.5 + 0.2 * late + 0.04 * rng.normal(),
            real_logit=gap / 2, fake_logit=-gap / 2, gap=gap,
            real_accuracy_by_head=[0.5 + late * a for a in (0.1, 0.2, 0.3)],
            gap_by_head=[late * a for a in (0.4, 0.8, 1.1)],
            fake_share_by_sigma=share.tolist(),
            fake_correct_by_sigma=(share * accuracy).tolist(),
        )  # fmt: skip
        if step >= 50 and step % 2:
            opened.log(step, phase="student", loss=-0.2 * late + 0.1 * rng.normal(),
                       grad_norm=0.5 + 0.1 * rng.normal(), lr=run.lr, ema_decay=0.99)  # fmt: skip


def demo_evaluation(directory: Path, run: Invented) -> Path:
    """An evaluation of the truth, the teacher at full and at few steps, and a student."""
    directory.mkdir(exist_ok=True)
    columns = [
        Column(name, pictures(blur, 3)) for name, blur in ((FULL, 0), (FEW, 7), (STUDENT, 1))
    ]
    write_grid(directory / "grids" / "fixed.png", columns, PROMPTS, seeds=3, tile=96)
    sheets: list[Sheet] = []
    for p, prompt in enumerate(PROMPTS[:2]):
        for name, blur, apart in ((FULL, 0, 1.0), (FEW, 7, 0.9), (STUDENT, 1, 0.35)):
            file = f"sheets/{p}_{name.split(',')[0].lower()}_{blur}.png"
            (directory / "sheets").mkdir(exist_ok=True)
            write_sheet(directory / file, pictures(blur, 20 + p, 16, apart))
            sheets.append(Sheet(file=file, caption="seeds 0 to 15", row=name, prompt=prompt))
    n, teacher, student = len(run.seeds), "0123456789abcdef", f"fedcba987654321{run.seed}"
    kid = 0.052 - run.closed * 0.048
    evaluation = results.Evaluation(
        suite="run", question="Does the 4-step student draw like its 30-step teacher?",
        world="shapes",
        rows=[
            Row(name="True pictures", role="truth", metrics=metrics(0.0, 0.979, 1.0, 1.0, n)),
            Row(name=FULL, role="teacher_full", metrics=metrics(0.004, 0.957, 0.96, 0.97, n),
                spec=spec("teacher", 30, 2.0, run, teacher),
                cost=Cost(seconds=412.0, images=512, model_calls=30720, peak_memory_mb=810.0)),
            Row(name=FEW, role="teacher_few", metrics=metrics(0.052, 0.72, 0.91, 0.71, n),
                spec=spec("teacher", 4, 1.0, run, teacher),
                cost=Cost(seconds=31.0, images=512, model_calls=2048)),
            Row(name=STUDENT, role="student",
                metrics=metrics(kid, 0.938 - 0.03 * run.seed, 0.83, 0.96, n),
                spec=spec("student", 4, 1.0, run, student),
                cost=Cost(seconds=31.2, images=512, model_calls=2048)),
        ],
        comparisons=[
            results.Comparison(
                name="Share of the KID gap closed", metric="kid_gap_closed", goal=0.8,
                rows=(STUDENT, FEW, FULL),
                estimate=Estimate(run.closed, run.closed - 0.032, run.closed + 0.027, 128, n),
            ),
            results.Comparison(
                name="Adherence, student minus teacher at full steps", metric="adherence",
                rows=(STUDENT, FULL), estimate=Estimate(0.938 - 0.957, -0.035, -0.004, 128, n),
            ),
            results.Comparison(
                name="Layout diversity, student minus teacher at full steps",
                metric="layout_diversity", rows=(STUDENT, FULL),
                estimate=Estimate(0.83 - 0.96, -0.17, -0.09, 128, n),
            ),
        ],
        grids={"grids/fixed.png": "Teacher at full steps, teacher at 4 steps, student at 4 steps."},
        sheets=sheets, curves=curves(), notes=NOTES,
        commands=["fewstep eval runs/demo", "fewstep report runs/demo"],
    )  # fmt: skip
    results.write_evaluation(directory / "evaluation.json", evaluation)
    return directory
