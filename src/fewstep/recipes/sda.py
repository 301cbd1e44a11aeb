"""SDA recipes: an adapter that gives a few-step model its diversity back."""

from __future__ import annotations

from dataclasses import replace

from fewstep.data.teacher import TeacherSamples
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.flow.sigmas import TURBO_GRID, levels
from fewstep.methods.sda import SDAConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.train.alarms import WatchConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def sda_shapes() -> Experiment:
    """Give a distilled Shapes model its diversity back: `fewstep train
    dmd2_shapes_narrow` first.

    Hardware: one CPU core. Duration: 7.5 minutes of processor time; no pictures are
    needed.
    Score: 3 training seeds give 83 % of the layout diversity back (80 to 86) and 88 % of the Vendi
    score, and lose 20 points of adherence, where sda_shapes8 loses 5 (docs/sda_seeds.md).
    """
    return Experiment(
        model="runs/dmd2_shapes_narrow/model",
        teacher="shapes",
        method=SDAConfig(states="own", pool=2, gate=0, guidance=2.0, teacher_steps=4),
        adapter=AdapterConfig(factor=4),
        optim=Optims(student=OptimConfig(lr=4e-3, betas=(0.9, 0.99), weight_decay=1e-3, warmup=20)),
        data=DataConfig(source="prompts", samples=TeacherSamples(prompts=512), batch_size=16),
        loop=LoopConfig(steps=200, checkpoint_every=50),
        watch=WatchConfig(every=50),
        sampling=SamplingConfig(sampler="euler", every=100),
        engine="fused",
        threads=1,
    )


def sda_shapes8() -> Experiment:
    """The same for a student of 8 steps: `fewstep train dmd2_shapes_narrow8` first. Its last two
    levels can finish any layout and have the anchor alone, a strong one: the adapter is to leave
    them as they are.

    Hardware: one CPU core. Duration: 12 to 15 minutes; no pictures are needed.
    Score: 5 training seeds give 86 % of the layout diversity back (83 to 88) and 82 % of the Vendi
    score, better the KID by 0.05 and lose 4.9 points of adherence (docs/sda_seeds8.md).
    """
    four = sda_shapes()
    assert isinstance(four.method, SDAConfig)
    return replace(
        four,
        model="runs/dmd2_shapes_narrow8/model",
        method=replace(
            four.method,
            student_sigmas=levels(TURBO_GRID),
            turns=(0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7),
            gate=2,
            anchor_weight=0.7,
            hold_weight=10.0,
        ),
        loop=replace(four.loop, steps=400),
        sampling=replace(four.sampling, steps=8),
    )


def sda_zimage_turbo() -> Experiment:
    """Give Z-Image-Turbo its diversity back on prompts of your own: an adapter of 84.8M parameters.

    Give `--data.prompts-file`. From the model card: LoKr of factor 8, pooling 8, weight decay
    0.001, 2500 steps, the last of the 8 levels with the anchor alone. The card is silent about the
    learning rate and the batch, which are guesses, and about guidance and how hard the gated level
    is held, which are those of sda_shapes8.
    For 512 x 512: `--data.samples.height 512 --data.samples.width 512 --method.pool 4`.
    Hardware: not measured, and none tried; memory by hand in docs/make_an_adapter.md.
    Duration: not measured.
    Score: not measured.
    """
    return Experiment(
        model="Tongyi-MAI/Z-Image-Turbo",
        teacher="Tongyi-MAI/Z-Image",
        world="none",
        method=SDAConfig(
            student_sigmas=levels(TURBO_GRID), turns=tuple(range(8)), states="own", gate=1, pool=8,
            guidance=2.0, hold_weight=10.0,
        ),
        adapter=AdapterConfig(factor=8),
        optim=Optims(student=OptimConfig(lr=1e-4, weight_decay=1e-3, warmup=50)),
        data=DataConfig(
            source="prompts",
            samples=TeacherSamples(prompts=1000, height=1024, width=1024, batch=1),
            prompts_file="prompts.txt",
            batch_size=4,
            micro_batch=1,
        ),
        loop=LoopConfig(steps=2500, checkpoint_every=250),
        watch=WatchConfig(every=50, batch=4),
        sampling=SamplingConfig(steps=8, sampler="euler", every=250, prompts=4),
        dtype="bfloat16",
    )  # fmt: skip


def sda_zimage_turbo_24gb() -> Experiment:
    """The same for one card of 24 GB, at 512 x 512: student and teacher are two models, and both
    fit in eight bits; blocks are computed again.

    Hardware: none tried; 20.5 GiB of tensors at the most by `fewstep plan`.
    Duration: not measured.
    Score: not measured.
    """
    large = sda_zimage_turbo()
    assert isinstance(large.method, SDAConfig)
    data = large.data
    return replace(
        large,
        method=replace(large.method, pool=4),
        data=replace(data, samples=replace(data.samples, height=512, width=512)),
        frozen="int8",
        recompute=True,
    )
