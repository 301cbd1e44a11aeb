"""A model without its weights: what `--dry-run` checks an experiment against."""

# pyright: reportArgumentType=false
# the libraries' annotations are looser than their classes

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import AutoConfig, AutoModel, AutoTokenizer, Qwen3VLConfig

from fewstep.errors import UserError
from fewstep.families.directory import BROKEN, check_pipeline, read_json
from fewstep.families.pictures import PictureReader
from fewstep.families.zimage import PICTURE_ENCODER, ZImage

PARTS = ("transformer", "text_encoder", "vae", "tokenizer", "scheduler")


def outline(path: Path) -> ZImage:
    """The model in a directory from its configs alone, on the meta device: sizes, levels, layers.

    UserError where the directory is no model or a config cannot be read.
    """
    check_pipeline(path, "ZImagePipeline", PARTS)
    tower = path / PICTURE_ENCODER
    try:
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(path / "scheduler")
        tokenizer = AutoTokenizer.from_pretrained(path / "tokenizer")
        with torch.device("meta"):
            config = read_json(path / "transformer" / "config.json")
            transformer = ZImageTransformer2DModel.from_config(config)
            vae = AutoencoderKL.from_config(read_json(path / "vae" / "config.json"))
            encoder = AutoModel.from_config(AutoConfig.from_pretrained(path / "text_encoder"))
            pictures = None
            if tower.is_dir():
                seen = Qwen3VLConfig.from_pretrained(tower)
                pictures = PictureReader.build(seen, encoder, tokenizer)
    except BROKEN as error:
        why = str(error) or type(error).__name__
        raise UserError(f"the configs of the model {path} do not fit together: {why}") from error
    pipeline = ZImagePipeline(
        scheduler=scheduler, vae=vae, text_encoder=encoder, tokenizer=tokenizer,
        transformer=transformer,
    )  # fmt: skip
    return ZImage(pipeline, pictures)
