"""D-OPSD recipes: teach a few-step model something new from a few pictures."""

from __future__ import annotations

from dataclasses import replace

from fewstep.data.folder import FolderConfig
from fewstep.data.teacher import TeacherSamples
from fewstep.evaluate.in_context import TeacherCheckConfig
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.flow.sigmas import TURBO_GRID, levels
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.train.alarms import WatchConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig


def dopsd_shapes() -> Experiment:
    """Teach a four-step Shapes model a concept from four pictures and 32 prompts: `fewstep train
    ladd_shapes` first. The pictures and prompts.txt are those of examples/concept, unless
    `--data.folder.path` names another folder.

    First beta 0.9, second 0.999, no decay, a clip of 1 and a teacher of decay 0.9999 are those of
    the released code (arXiv:2605.05204); the rest is for this small model. What the teacher knows
    more comes to it as text, so the adapter sits on what reads the text: one on the blocks learns
    the concept as well and spoils other prompts. An outline is little of a picture, so the check
    of the teacher takes more pictures than usual.
    Hardware: one CPU core. Duration: 1.5 minutes of processor time, and the check before it.
    Score: of novel prompts' pictures 59, 59 and 64 % right in three training seeds on
    examples/concept (1 % before, 62 % beside a picture), adherence on other prompts -1.6, +2.0 and
    +1.2 points (docs/dopsd_methods.md has six concepts).
    """
    return Experiment(
        model="runs/ladd_shapes/model",
        method=DOPSDConfig(visits=2, tether_weight=10.0),
        adapter=AdapterConfig(factor=2, targets=("text",)),
        optim=Optims(
            student=OptimConfig(lr=4e-3, betas=(0.9, 0.999), warmup=20, schedule="cosine")
        ),
        data=DataConfig(
            source="folder",
            folder=FolderConfig(
                path="examples/concept", prompts="prompts.txt", size=64, context="picture"
            ),
            prior="prompts",
            prior_size=4,
            samples=TeacherSamples(prompts=512),
            batch_size=4,
        ),
        loop=LoopConfig(steps=240, checkpoint_every=120),
        watch=WatchConfig(every=50),
        sampling=SamplingConfig(every=120),
        check=TeacherCheckConfig(pictures=64),
        engine="fused",
        threads=1,
    )


def dopsd_zimage_turbo() -> Experiment:
    """Teach Z-Image-Turbo a concept or a style on one card of 80 GB. Give `--data.folder.path`
    and `--data.prompts-file`, prompts of anything else, which the tether holds; the model
    directory needs a picture_encoder/ folder (a Qwen3-VL-4B), or take `--data.folder.context
    prompt`.

    From the released code: LoRA of rank 64 on attention and feed-forward, AdamW at 1e-4, batch 4,
    2000 steps, 4 states a step, teacher of decay 0.9999. Its LoRA counts twice (alpha 128), ours
    once. The states are those of the 8 steps that the model is used with.
    Hardware: none tried (`fewstep plan dopsd_zimage_turbo`).
    Duration: not measured.
    Score: not measured.
    """
    return Experiment(
        model="Tongyi-MAI/Z-Image-Turbo",
        world="none",
        method=DOPSDConfig(student_sigmas=levels(TURBO_GRID), visits=4, tether_weight=1.0),
        adapter=AdapterConfig(kind="lora", rank=64, targets=("attention", "feed_forward")),
        optim=Optims(student=OptimConfig(lr=1e-4, betas=(0.9, 0.999))),
        data=DataConfig(
            source="folder",
            folder=FolderConfig(path="pictures", size=1024, context="picture"),
            prior="prompts",
            prior_size=4,
            samples=TeacherSamples(prompts=256, height=1024, width=1024, batch=1),
            prompts_file="prompts.txt",
            batch_size=4,
            micro_batch=1,
        ),
        loop=LoopConfig(steps=2000, checkpoint_every=250),
        watch=WatchConfig(every=50, batch=4),
        sampling=SamplingConfig(steps=8, sampler="euler", every=250, prompts=4),
        dtype="bfloat16",
    )


def dopsd_zimage_turbo_24gb() -> Experiment:
    """The same for one card of 24 GB, as small as it has to be: pictures of 256 x 256, a LoRA of
    rank 16, and enhanced prompts (`NAME.enhanced.txt`) for the teacher, which need no picture
    encoder.

    Hardware: none tried; 19.6 GiB of tensors at the most by `fewstep plan`.
    Duration: not measured.
    Score: not measured.
    """
    large = dopsd_zimage_turbo()
    data = large.data
    return replace(
        large,
        adapter=replace(large.adapter or AdapterConfig(), rank=16),
        data=replace(
            data,
            folder=replace(data.folder, size=256, context="prompt"),
            samples=replace(data.samples, height=256, width=256),
        ),
    )


def dopsd_zimage_turbo_16gb() -> Experiment:
    """The same for one card of 16 GB and pictures of 512 x 512: the frozen base in eight bits, and
    blocks are computed again.

    Hardware: none tried; 14 GiB of tensors at the most by `fewstep plan`.
    Duration: not measured.
    Score: not measured.
    """
    small = dopsd_zimage_turbo_24gb()
    data = small.data
    return replace(
        small,
        data=replace(
            data,
            folder=replace(data.folder, size=512),
            samples=replace(data.samples, height=512, width=512),
        ),
        frozen="int8",
        recompute=True,
    )
