"""DMD2 recipes: one that distils well, and one whose students have the illness that SDA cures."""

from __future__ import annotations

from dataclasses import replace

from fewstep.data.teacher import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.methods.dmd2 import DMD2Config
from fewstep.train.alarms import WatchConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig

LEVELS = (1.0, 0.954545, 0.9, 0.833333, 0.75, 0.642857, 0.5, 0.3)
"""Of `flow.sigmas.TURBO_GRID`, in the digits of the run that was measured: with more of them the
same recipe drew a student that kept its layouts (LOG.md, 2026-11-21)."""


def dmd2_shapes() -> Experiment:
    """Distil the packaged Shapes model to four steps by distribution matching.

    Hardware: one CPU core. Duration: 12 minutes of processor time for the first 600
    of 1,000 steps.
    Score: one run, stopped after 600 steps: 75 % of the prompts right, KID 0.0066; its teacher 44 %
    and 0.025 at 4 steps, 83 % and 0.0053 at 20 (32 prompts x 16 seeds; LOG.md, 2026-11-21).
    """
    return Experiment(
        method=DMD2Config(guidance=4.0),
        optim=Optims(critic=OptimConfig(lr=1e-4), student=OptimConfig(lr=5e-5, warmup=20)),
        data=DataConfig(source="prompts", samples=TeacherSamples(prompts=2048)),
        loop=LoopConfig(steps=1000, checkpoint_every=100),
        watch=WatchConfig(every=50),
        sampling=SamplingConfig(sampler="euler", every=100),
        engine="fused",
        threads=1,
    )


def dmd2_shapes_narrow() -> Experiment:
    """The same with strong guidance and a student that runs ahead of its critic: sharp, right, and
    nearly the same picture for every seed, as few-step models often are. SDA is measured on it.

    Hardware: one CPU core. Duration: 6 to 7 minutes.
    Score: one run: 79 % of the prompts right, layout diversity 0.74 of the truth, a Vendi
    of 3.2 where its teacher has 5.3 (32 prompts x 16 seeds; LOG.md, 2026-11-21).
    """
    wide = dmd2_shapes()
    return replace(
        wide,
        method=replace(wide.method, guidance=6.0, student_every=1, turns=(0, 0, 1, 2, 3)),
        optim=Optims(critic=OptimConfig(lr=2e-4), student=OptimConfig(lr=1e-3, warmup=20)),
        loop=LoopConfig(steps=200, checkpoint_every=50),
        sampling=replace(wide.sampling, every=50),
    )


def dmd2_shapes_narrow8() -> Experiment:
    """A narrow student of 8 steps, whose last two levels learn from noised pictures, so that they
    can finish any layout: what is narrow is the first six. SDA is measured on it.

    Hardware: one CPU core. Duration: 13 minutes of processor time, and the pictures of ladd_shapes.
    Score: one run: 75 % of the prompts right, layout diversity 0.75 of the truth, a Vendi of 3.5
    where its teacher has 5.3 (32 prompts x 16 seeds; LOG.md, 2026-11-21).
    """
    four = dmd2_shapes_narrow()
    return replace(
        four,
        method=replace(
            four.method,
            student_sigmas=LEVELS,
            turns=(0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7),
            picture_levels=2,
        ),
        data=DataConfig(samples=TeacherSamples(prompts=2048, picture_share=0.25)),
        loop=LoopConfig(steps=300, checkpoint_every=60),
        sampling=replace(four.sampling, steps=8, every=60),
    )
