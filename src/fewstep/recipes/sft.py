"""SFT recipes: ordinary flow matching at the levels of a few-step model."""

from __future__ import annotations

from fewstep.data.precompute import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.methods.sft import SFTConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def sft_shapes() -> Experiment:
    """Fit the packaged Shapes model to its own samples, mostly at pure noise, where it then answers
    with the mean of all pictures of a prompt, as a large model does.

    Hardware: one CPU core. Duration: not yet measured.
    Score: not yet measured.
    """
    return Experiment(
        method=SFTConfig(student_probs=(0.7, 0.1, 0.1, 0.1)),
        optim=Optims(student=OptimConfig(lr=3e-4, betas=(0.9, 0.99), warmup=20)),
        data=DataConfig(samples=TeacherSamples(prompts=512, picture_share=0.25)),
        loop=LoopConfig(steps=300, checkpoint_every=100),
        sampling=SamplingConfig(sampler="euler", every=100),
        engine="fused",
        threads=1,
    )
