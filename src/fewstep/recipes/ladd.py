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
from fewstep.nets.adapters import AdapterConfig
from fewstep.nets.heads import HeadsConfig
from fewstep.train.alarms import GO_BACK, WatchConfig
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
        watch=WatchConfig(every=50, policy=GO_BACK),
        engine="fused",
        threads=1,
    )


def ladd_shapes_demo() -> Experiment:
    """The same with fewer samples and steps, which the student uses all: what `fewstep demo` runs.

    Hardware: one CPU core. Duration: 8 to 10 minutes with installation, distillation and report; 14
    minutes of processor time where the processor has no bfloat16.
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
        watch=replace(full.watch, every=22),
        eval=EvalConfig(prompts=128, seeds=3, full_seeds=2),
    )


def ladd_zimage() -> Experiment:
    """Distil a Z-Image directory to four steps on prompts of your own.

    Give `--model` and `--data.prompts-file`. Every weight is trained, in float32, at 1024 x 1024:
    no GPU of 80 or 141 GB holds that (`fewstep plan ladd_zimage`), ladd_zimage_80gb fits one.
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
        watch=WatchConfig(every=50),  # whose bands no large model has tried
        dtype="bfloat16",
    )


def ladd_zimage_80gb() -> Experiment:
    """The same on one GPU of 80 GB, at 512 x 512: every weight trains, exactly as in float32, as a
    bfloat16 one with the rest beside it; the one moment that is needed in eight bits; blocks are
    computed again; a step has prompts of one length, for gradients of several would add up in
    bfloat16; and what is exported is the student itself, for an average of it would take another
    23 GiB.

    Give `--model` and `--data.prompts-file`. `fewstep plan ladd_zimage_80gb` counts 55 GiB of
    tensors at the most.
    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    large = ladd_zimage()
    student = replace(large.optim.student, weights="exact", moments="8bit")
    return replace(
        large,
        method=replace(large.method, ema_decay=0.0),
        optim=replace(large.optim, student=student),
        data=replace(
            large.data,
            samples=replace(large.data.samples, height=512, width=512, batch=8),
            batch_size=8, micro_batch=None, alike=True,
        ),
        recompute=True,
    )  # fmt: skip


def ladd_zimage_48gb() -> Experiment:
    """The same on one GPU of 48 GB, a sample at a time: the frozen teacher in eight bits, and every
    weight moves as soon as its gradient is there. `fewstep plan ladd_zimage_48gb` counts 42 GiB of
    tensors at the most, while prompts are read for pictures on the way; in a step it is 37.

    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    one = ladd_zimage_80gb()
    return replace(
        one,
        # the hinge needs two samples
        method=replace(one.method, loss="softplus"),
        optim=replace(one.optim, student=replace(one.optim.student, in_backward=True)),
        data=replace(one.data, batch_size=1),
        frozen="int8",
    )


def ladd_zimage_32gb() -> Experiment:
    """The same on one GPU of 32 GB: what the optimizer keeps beside weights waits in main memory,
    17 GiB in 26 that torch pins for it, and crosses to the GPU and back for every update.
    `fewstep plan ladd_zimage_32gb` counts 25 GiB of tensors on the GPU at the most, while prompts
    are read for pictures on the way; in a step it is 19.

    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    one = ladd_zimage_48gb()
    student = replace(one.optim.student, offload=True)
    return replace(one, optim=replace(one.optim, student=student))


def ladd_zimage_8x80gb() -> Experiment:
    """The same on eight of them under torchrun, which share a step of 64 samples; each holds all.

    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    one = ladd_zimage_80gb()
    return replace(one, data=replace(one.data, batch_size=64, micro_batch=8))


def ladd_zimage_lora_24gb() -> Experiment:
    """The same with a LoRA of rank 32 as all that trains, over the frozen teacher's own weights.

    `fewstep plan ladd_zimage_lora_24gb` counts 20 GiB of tensors at the most, while prompts are
    read for pictures on the way; in a step it is 19.
    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    large = ladd_zimage_80gb()
    return replace(
        large,
        adapter=AdapterConfig(kind="lora", rank=32, targets=("attention", "feed_forward")),
        method=replace(large.method, ema_decay=0.99),
        optim=replace(large.optim, student=OptimConfig(lr=1e-4, warmup=100)),
    )


def ladd_zimage_lora_16gb() -> Experiment:
    """The same on a card of 16 GB: the frozen base in eight bits, so that the teacher is only near
    what it was, also when it draws the samples. `fewstep plan ladd_zimage_lora_16gb` counts 14.4
    GiB of tensors at the most.

    Hardware: none tried. Duration: not yet measured.
    Score: not yet measured.
    """
    return replace(ladd_zimage_lora_24gb(), frozen="int8")
