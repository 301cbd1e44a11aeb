"""What D-OPSD is held against, on the same folder of pictures and at the same budget.

The budget is that of dopsd_shapes: as many optimizer steps, and in each as many passes of one
sample with a gradient, 16 (4 pictures and 4 other prompts at 2 levels each). Wall time is not
equal: passes without a gradient come on top and differ. Further prompts, which no picture shows,
are of no use to a method that learns from the pictures themselves.
"""

from __future__ import annotations

from dataclasses import replace

from fewstep.experiment.config import Experiment
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sft import SFTConfig
from fewstep.recipes.dopsd import dopsd_shapes

PASSES = 16
"""With a gradient, in each step."""


def sft_tune_shapes() -> Experiment:
    """Ordinary fine-tuning of a four-step Shapes model on four pictures: `fewstep train
    ladd_shapes` first. With `--assistant FILE --assistant-share symmetric` an adapter undoes the
    distillation while it trains (`undistill_shapes` makes one).

    Hardware: one CPU core. Duration: a minute.
    Score: six concepts, one run each: 8 % of novel prompts' pictures right (2 to 15), adherence on
    other prompts -0.2 points (-2.8 to 2.4); on the blocks 13 % and -52 points
    (docs/dopsd_methods.md).
    """
    base = dopsd_shapes()
    folder = replace(base.data.folder, context="none", prompts=None)
    return replace(
        base,
        method=SFTConfig(),
        data=replace(base.data, folder=folder, prior="none", batch_size=PASSES),
    )


def dreambooth_shapes() -> Experiment:
    """The same with prior preservation: half of the passes are on samples of other prompts that the
    model has drawn itself before.

    Hardware: one CPU core. Duration: a minute.
    Score: six concepts, one run each: 1 % right, adherence -48 points: at this rate the model is
    lost.
    """
    sft = sft_tune_shapes()
    half = PASSES // 2
    samples = replace(sft.data.samples, steps=4, guidance=1.0, picture_share=0.0)
    return replace(
        sft,
        method=DreamBoothConfig(),
        data=replace(sft.data, prior="samples", prior_size=half, batch_size=half, samples=samples),
    )


def pso_shapes() -> Experiment:
    """Pairs of a picture and what the model draws of its prompt: two passes a picture.

    Hardware: one CPU core. Duration: 1.5 to 2 minutes.
    Score: six concepts, one run each: 8 % right (0 to 16), adherence -3.3 points (-8.1 to 1.6).
    """
    sft = sft_tune_shapes()
    return replace(sft, method=PSOConfig(), data=replace(sft.data, batch_size=PASSES // 2))


def offpolicy_shapes() -> Experiment:
    """D-OPSD's teacher on pictures with noise instead of the student's own states, at two levels of
    each picture, without a tether.

    Hardware: one CPU core. Duration: 1.2 minutes.
    Score: six concepts, one run each: 25 % right (7 to 42), adherence -2.9 points (-8.5 to 2.7).
    """
    base = dopsd_shapes()
    visits = 2
    folder = replace(base.data.folder, prompts=None)
    return replace(
        base,
        method=OffPolicyConfig(visits=visits),
        data=replace(base.data, folder=folder, prior="none", batch_size=PASSES // visits),
    )
