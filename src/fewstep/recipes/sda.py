"""SDA recipes: an adapter that gives a few-step model its diversity back."""

from __future__ import annotations

from fewstep.data.precompute import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.methods.sda import SDAConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def sda_shapes() -> Experiment:
    """Give a distilled Shapes model its diversity back: `fewstep train
    dmd2_shapes_narrow` first.

    Hardware: one CPU core. Duration: 7.5 minutes of processor time; no pictures are
    needed.
    Score: not yet measured. A first trial gave 82 % of the layout diversity back and lost 24 points
    of adherence (LOG.md, 2026-11-21).
    """
    return Experiment(
        model="runs/dmd2_shapes_narrow/model",
        teacher="shapes",
        method=SDAConfig(states="own", pool=2, gate=0, guidance=2.0, teacher_steps=4),
        adapter=AdapterConfig(factor=4),
        optim=Optims(student=OptimConfig(lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3, warmup=20)),
        data=DataConfig(source="prompts", samples=TeacherSamples(prompts=512), batch_size=16),
        loop=LoopConfig(steps=200, checkpoint_every=50),
        sampling=SamplingConfig(sampler="euler", every=100),
        engine="fused",
        threads=1,
    )
