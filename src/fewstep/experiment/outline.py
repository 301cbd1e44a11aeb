"""A model without its weights: what `--dry-run` checks an experiment against."""

# pyright: reportArgumentType=false
# the libraries' annotations are looser than their classes

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import AutoConfig, AutoModel, AutoTokenizer, Qwen3Config, Qwen3VLConfig

from fewstep.errors import UserError
from fewstep.families.directory import BROKEN, check_pipeline, read_json
from fewstep.families.pictures import PictureReader
from fewstep.families.zimage import PICTURE_ENCODER, ZImage

PARTS = ("transformer", "text_encoder", "vae", "tokenizer", "scheduler")

SHIFTS = {"Tongyi-MAI/Z-Image": 6.0, "Tongyi-MAI/Z-Image-Turbo": 3.0}
"""The published models by hub id, and the shift of their schedulers."""
TRANSFORMER: dict[str, Any] = {
    "dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30,
    "in_channels": 16, "cap_feat_dim": 2560, "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
}  # fmt: skip
ENCODER: dict[str, Any] = {
    "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
}  # fmt: skip
AUTOENCODER: dict[str, Any] = {
    "latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False,
    "use_post_quant_conv": False,
}  # fmt: skip


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


def published(model: str) -> ZImage | None:
    """The outline of a published model by its hub id, without asking the hub; None for others. It
    has no tokenizer."""
    if model not in SHIFTS:
        return None
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel(**TRANSFORMER)
        vae = AutoencoderKL(**AUTOENCODER)
        encoder = AutoModel.from_config(Qwen3Config(**ENCODER))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFTS[model])
    pipeline = ZImagePipeline(
        scheduler=scheduler, vae=vae, text_encoder=encoder, tokenizer=None, transformer=transformer
    )
    return ZImage(pipeline, None)
