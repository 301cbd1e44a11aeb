"""SFT recipes: ordinary flow matching at the levels of a few-step model."""

from __future__ import annotations

from fewstep.data.precompute import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.methods.sft import SFTConfig
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
        sampling=SamplingConfig(sampler="euler", every=50),
        engine="fused",
        threads=1,
    )
