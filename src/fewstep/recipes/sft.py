"""SFT recipes: ordinary flow matching at the levels of a few-step model."""

from __future__ import annotations

from fewstep.data.precompute import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.methods.sft import SFTConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def sft_shapes() -> Experiment:
    """Make a four-step student that answers every seed with nearly the same picture: the packaged
    model, fitted to samples that all come from one noise. SDA is measured on it.

    Hardware: one CPU core. Duration: not yet measured.
    Score: not yet measured.
    """
    return Experiment(
        method=SFTConfig(),
        optim=Optims(student=OptimConfig(lr=3e-4, betas=(0.9, 0.99), warmup=20)),
        data=DataConfig(samples=TeacherSamples(prompts=512, noise="one")),
        loop=LoopConfig(steps=300, checkpoint_every=50),
        sampling=SamplingConfig(sampler="euler", every=50),
        engine="fused",
        threads=1,
    )
