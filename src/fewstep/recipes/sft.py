"""SFT recipes: ordinary flow matching at the levels of a few-step model."""

from __future__ import annotations

from dataclasses import replace

from fewstep.data.teacher import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.flow.sigmas import TURBO_GRID, levels
from fewstep.methods.sft import SFTConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.train.alarms import WatchConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def sft_shapes() -> Experiment:
    """Fit the packaged model to samples that all come from one noise: a four-step student that
    should answer every seed with nearly the same picture.

    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    return Experiment(
        method=SFTConfig(),
        optim=Optims(student=OptimConfig(lr=3e-4, betas=(0.9, 0.99), warmup=20)),
        data=DataConfig(samples=TeacherSamples(prompts=512, noise="one")),
        loop=LoopConfig(steps=300, checkpoint_every=50),
        watch=WatchConfig(every=50),
        sampling=SamplingConfig(sampler="euler", every=50),
        engine="fused",
        threads=1,
    )


def undistill_shapes() -> Experiment:
    """An adapter that undoes a distillation, for `--assistant`: flow matching at the levels of the
    narrow four-step student on its teacher's samples, so that it answers with the mean of many
    pictures again. `fewstep train dmd2_shapes_narrow` first.

    Hardware: one CPU core. Duration: not yet measured.
    Score: not yet measured.
    """
    return Experiment(
        model="runs/dmd2_shapes_narrow/model",
        teacher="shapes",
        method=SFTConfig(),
        adapter=AdapterConfig(factor=4),
        optim=Optims(student=OptimConfig(lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3, warmup=20)),
        data=DataConfig(samples=TeacherSamples(prompts=512), batch_size=32),
        loop=LoopConfig(steps=300, checkpoint_every=50),
        watch=WatchConfig(every=50),
        sampling=SamplingConfig(sampler="euler", every=100),
        engine="fused",
        threads=1,
    )


def undistill_shapes8() -> Experiment:
    """The same for the student of 8 steps: `fewstep train dmd2_shapes_narrow8` first.

    Hardware: one CPU core. Duration: not yet measured.
    Score: not yet measured.
    """
    four = undistill_shapes()
    return replace(
        four,
        model="runs/dmd2_shapes_narrow8/model",
        method=SFTConfig(student_sigmas=levels(TURBO_GRID), student_probs=(0.125,) * 8),
        sampling=replace(four.sampling, steps=8),
    )
