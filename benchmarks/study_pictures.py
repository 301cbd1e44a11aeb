"""What the models of a study draw, side by side: the same prompts and the same seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.study_judge import Judge
from benchmarks.study_plan import Study

from fewstep.evaluate.generate import generate
from fewstep.evaluate.grids import Column, write_grid
from fewstep.families.zimage import ZImage
from fewstep.shapes import Pixels

PROMPTS, SEEDS = 6, 3


def write_pictures(study: Study, judge: Judge, path: Path) -> Path:
    """A grid of the first test prompts: the teacher, then each variant's first training seed."""
    prompts, seeds = judge.prompts[:PROMPTS], tuple(range(SEEDS))
    base = study.base
    few = base.sampling.steps
    full, w = base.eval.full(base.data.samples.steps, base.data.samples.guidance)

    def draw(title: str, family: ZImage, steps: int, w: float = 1) -> Column:
        spec = replace(judge.spec(title, family, steps, w), prompts=prompts, seeds=seeds)
        images: Pixels = generate(family, family.backbone, spec, batch_size=judge.args.batch)
        return Column(title, images)

    columns = [
        draw(f"teacher, {full} steps, w = {w:g}", judge.teacher, full, w),
        draw(f"teacher, {few} steps", judge.teacher, few),
    ]
    jobs = {job.variant.name: job for job in study.jobs() if job.seed == study.seeds[0]}
    for v in study.variants:
        label = f"student, {few} steps" + (f": {v.level}" if v.level else "")
        model = judge.model(jobs[v.trained_as or v.name], v.view)
        columns.append(draw(label, model, few))
    return write_grid(path, columns, prompts, seeds=SEEDS, tile=64)
