"""LADD recipes: a multi-step teacher becomes a 4-step student."""

from __future__ import annotations

from dataclasses import replace

from fewstep.data.teacher import TeacherSamples
from fewstep.experiment.config import (
    DataConfig,
    EvalConfig,
    Experiment,
    Optims,
    SamplingConfig,
)
from fewstep.methods.ladd import LADDConfig
from fewstep.nets.heads import HeadsConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def ladd_shapes() -> Experiment:
    """Distil the packaged Shapes model to four steps, at the full budget.

    Hardware: one CPU core. Duration: 12 to 15 minutes with engine = compiled (which needs a C++
    compiler), after the teacher's samples, which are drawn once for all runs.
    Score: 5 training seeds close 0.86 of the KID gap (0.76 to 0.96) and draw 61 % of the prompts
    right, where the teacher draws 39 % at 4 steps and 79 % at 20; none collapsed
    (docs/ladd_seeds.md).
    """
    return Experiment(
        method=LADDConfig(
            layers=(1, 3, 5),
            heads=HeadsConfig(hidden=128, embed=64),
            # the sampler visits every level once, and the small teacher needs all of them
            student_probs=(0.25, 0.25, 0.25, 0.25),
            renoise_mean=0.5,
            student_every=2,
            warmup_steps=0,
        ),
        optim=Optims(
            heads=OptimConfig(lr=2e-3),
            student=OptimConfig(lr=1e-4, warmup=100, schedule="cosine"),
        ),
        data=DataConfig(samples=TeacherSamples(prompts=2048, picture_share=0.25)),
        loop=LoopConfig(steps=1200, checkpoint_every=100),
        sampling=SamplingConfig(every=100),
        engine="fused",
        threads=1,
    )


def ladd_shapes_demo() -> Experiment:
    """The same with fewer samples and steps, which the student uses all: what `fewstep demo` runs.

    Hardware: one CPU core. Duration: 8 to 10 minutes with installation, distillation and report.
    Score: one run closed 0.71 of the KID gap (0.30 to 1.41) and drew 61 % of the prompts right, the
    teacher 44 % at 4 steps and 81 % at 20 (128 prompts x 3 seeds; LOG.md, 2026-11-21).
    """
    full = ladd_shapes()
    return replace(
        full,
        method=replace(full.method, renoise_mean=0.0, student_every=1),
        optim=replace(full.optim, student=replace(full.optim.student, warmup=50)),
        data=replace(full.data, samples=replace(full.data.samples, prompts=512)),
        loop=LoopConfig(steps=220, checkpoint_every=110),
        sampling=SamplingConfig(every=55),
        eval=EvalConfig(prompts=128, seeds=3, full_seeds=2),
    )


def ladd_zimage() -> Experiment:
    """Distil a Z-Image directory to four steps on prompts of your own.

    Give `--model` and `--data.prompts-file`. Every weight is trained, in float32:
    about 143 GB before any activation (computed), so no GPU of 80 or 141 GB holds it yet.
    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    return Experiment(
        model="Tongyi-MAI/Z-Image",
        world="none",
        method=LADDConfig(
            layers=(5, 11, 17, 23),
            # the base model's grid: shift 6
            student_sigmas=(1.0, 18 / 19, 6 / 7, 2 / 3),
        ),
        optim=Optims(
            heads=OptimConfig(lr=1e-4, warmup=100), student=OptimConfig(lr=1e-5, warmup=100)
        ),
        data=DataConfig(
            samples=TeacherSamples(
                prompts=20_000, steps=28, guidance=5.0, height=1024, width=1024, batch=4
            ),
            prompts_file="prompts.txt",
            batch_size=32,
            micro_batch=2,
        ),
        loop=LoopConfig(steps=2000, checkpoint_every=200),
        dtype="bfloat16",
    )
