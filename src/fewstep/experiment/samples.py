"""What the student learns from: teacher samples or prompts, and everything that decides them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

from fewstep.data.batches import Samples
from fewstep.data.cache import Key, SampleCache, check_writable
from fewstep.data.precompute import Told, precompute, text_hash
from fewstep.data.prompts import PromptSamples
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.prompts import training_prompts
from fewstep.families.pictures import CLOSE, OPEN, PAD
from fewstep.families.text import chat
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import FusedZImage
from fewstep.runs import user_path
from fewstep.worlds.base import World


def samples_of(
    experiment: Experiment, family: ZImage, world: World | None, told: Told
) -> tuple[Samples, Key]:
    """The samples, and what decided them."""
    cfg = experiment.data.samples
    match experiment.data.source:
        case "samples":
            cache = teacher_samples(experiment, family, world, told)
            return cache, cache.key
        case "prompts":
            prompts = training_prompts(experiment, world)
            shape = family.latent_shape(cfg.height, cfg.width)
            key = {
                "model": family.fingerprint(), "prompts": len(prompts),
                "prompts_hash": text_hash("\x1f".join(prompts)), "size": [cfg.height, cfg.width],
            }  # fmt: skip
            return PromptSamples(prompts, family.encode_text, shape), key
        case _:
            assert_never(experiment.data.source)


def teacher_samples(
    experiment: Experiment, family: ZImage, world: World | None, told: Told
) -> SampleCache:
    cfg, prompts = experiment.data.samples, training_prompts(experiment, world)
    root, directory = places(experiment)
    return precompute(
        cfg,
        family,
        prompts,
        root,
        shown=None if world is None else world.in_context,
        facts=facts(experiment, family, world, prompts),
        directory=directory,
        told=told,
    )


def places(experiment: Experiment) -> tuple[Path, Path | None]:
    """The root of all caches, and the very directory where one is given."""
    data = experiment.data
    return user_path(data.cache), None if data.directory is None else user_path(data.directory)


def check_samples(experiment: Experiment, family: ZImage, world: World | None) -> None:
    """UserError for what would make the samples impossible, before the first is drawn."""
    cfg = experiment.data.samples
    family.latent_shape(cfg.height, cfg.width)
    if experiment.data.source == "prompts":
        return
    if cfg.picture_share and world is None:
        raise UserError("data.samples.picture_share > 0 needs a world that can draw pictures")
    if cfg.picture_share and family.pictures is None:
        raise UserError(
            f"data.samples.picture_share is {cfg.picture_share:g}, but the model "
            f"{experiment.model} has no picture encoder; set it to 0"
        )
    root, directory = places(experiment)
    check_writable(directory or root)


def facts(
    experiment: Experiment, family: ZImage, world: World | None, prompts: Sequence[str]
) -> dict[str, Any]:
    """What decides samples besides weights and numbers: how products are computed, how prompts
    and pictures are read."""
    engine, tokenizer = str(experiment.engine), family.pipeline.tokenizer
    if isinstance(family.backbone, FusedZImage):
        engine += f", {str(family.backbone.low).removeprefix('torch.')} products"
    [turn] = chat(tokenizer, ["PROMPT"])
    read = [turn, *prompts]
    found: dict[str, Any] = {"engine": engine, "dtype": experiment.dtype, "chat": turn}
    if experiment.engine != "plain" or experiment.dtype != "float32":
        found["batch"] = experiment.data.samples.batch  # coarse products round by the batch's size
    if experiment.data.samples.picture_share and world is not None and family.pictures is not None:
        found |= {"world": world.name, "picture_pixels": list(family.pictures.pixels)}
        few = prompts[:16]
        read += [OPEN + PAD + CLOSE, *world.in_context(few, range(len(few)))[0]]
    # the tokens, not the vocabulary: words that no prompt has decide nothing
    return found | {"tokens": text_hash(str(tokenizer(read).input_ids))}
