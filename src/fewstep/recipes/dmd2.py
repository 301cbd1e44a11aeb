"""DMD2 recipes: few-step students with the illness that SDA cures."""

from __future__ import annotations

from fewstep.data.precompute import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.methods.dmd2 import DMD2Config
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def dmd2_shapes() -> Experiment:
    """Distil the packaged Shapes model to four steps by distribution matching, as Turbo-like models
    are made: sharp, and nearly the same picture for every seed.

    Hardware: one CPU core. Duration: not yet measured.
    Score: not yet measured.
    """
    return Experiment(
        method=DMD2Config(guidance=4.0),
        optim=Optims(
            critic=OptimConfig(lr=1e-4),
            student=OptimConfig(lr=5e-5, warmup=20),
        ),
        data=DataConfig(source="prompts", samples=TeacherSamples(prompts=2048)),
        loop=LoopConfig(steps=1000, checkpoint_every=100),
        sampling=SamplingConfig(sampler="euler", every=100),
        engine="fused",
        threads=1,
    )
