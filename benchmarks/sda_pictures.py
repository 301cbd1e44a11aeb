"""What teacher, student and adapter draw, side by side: the same prompts and the same seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.sda_drawings import Drawing
from benchmarks.sda_judge import Judge
from benchmarks.sda_plan import STUDIES
from benchmarks.sda_records import Told, best_yardstick

from fewstep.evaluate.generate import generate
from fewstep.evaluate.grids import Column, write_grid
from fewstep.families.zimage import ZImage
from fewstep.flow.variety import FirstStepBy, Variety

PROMPTS, SEEDS = 6, 4
PICTURED = ("seeds", "seeds8", "yardsticks", "strengths")
"""Studies of few models: their pictures fit beside the teacher's."""
HALF = 0.5


def write_pictures(told: Told, judge: Judge, path: Path) -> Path:
    """A grid of the first test prompts: teacher, student, and what the study is of, each adapter
    that of the first training seed."""
    prompts, seeds = judge.prompts[:PROMPTS], tuple(range(SEEDS))

    def draw(
        title: str, family: ZImage, steps: int, w: float = 1, variety: Variety | None = None
    ) -> Column:
        spec = judge.spec(title, family, steps, w, variety)
        first = judge.teacher.backbone if isinstance(variety, FirstStepBy) else None
        images = generate(
            family, family.backbone, replace(spec, prompts=prompts, seeds=seeds),
            batch_size=judge.args.batch, first=first,
        )  # fmt: skip
        return Column(title, images)

    (full, w), steps = judge.full, judge.steps
    columns = [
        draw(f"teacher, {full} steps, w = {w:g}", judge.teacher, full, w),
        draw(f"student, {steps} steps", judge.student, steps),
    ]
    for title, drawing in added(told):
        family, _ = judge.drawing_model(drawing)
        columns.append(draw(title, family, steps, variety=drawing.variety))
    return write_grid(path, columns, prompts, seeds=SEEDS, tile=64)


def added(told: Told) -> list[tuple[str, Drawing]]:
    """What stands beside teacher and student, with its title."""
    seed = told.study.seeds[0]
    adapter = "student with adapter", Drawing(name="adapter", seed=seed)
    match told.study.name:
        case "yardsticks":
            drawings = STUDIES["yardsticks"].drawings
            assert drawings is not None
            best = best_yardstick(told.rows)
            ways = drawings(told.study.base, told.study.seeds)
            return [(f"{d.question}: {d.level}", d) for d in ways
                    if best is not None and d.name == best.name] + [adapter]  # fmt: skip
        case "strengths":
            half = Drawing(name="half", seed=seed, strength=HALF)
            return [(f"adapter at strength {HALF:g}", half), adapter]
        case _:
            return [adapter]
