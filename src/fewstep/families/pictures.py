"""Reading a picture in context: a Qwen3-VL tower in front of the model's own language weights."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from fewstep.errors import UserError
from fewstep.families.base import Cond
from fewstep.families.directory import BROKEN, follow_umask, in_short, read_json, weight_files
from fewstep.families.text import chat
from fewstep.shapes import Pixels

OPEN, PAD, CLOSE = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
PIXELS = (512 * 512, 768 * 768)
"""A picture is read at a size between these; Qwen's own upper limit is thousands of tokens."""
LANGUAGE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps",
    "attention_bias",
)  # fmt: skip
"""What the language side of a Qwen3-VL has in common with a Qwen3."""


def patches(images: Pixels, patch: int, merge: int, frames: int) -> tuple[Tensor, Tensor]:
    """Qwen-VL's flat patches of images in [0, 1], and the (frames, rows, columns) grid of each.

    A still picture is `frames` equal frames; the patches of one merged token lie side by side.
    """
    b, c, height, width = images.shape
    rows, columns = height // patch, width // patch
    x = (images * 2 - 1).reshape(b, c, rows // merge, merge, patch, columns // merge, merge, patch)
    x = (
        x.permute(0, 2, 5, 3, 6, 1, 4, 7)
        .unsqueeze(6)
        .expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
    )
    grid = torch.tensor([[1, rows, columns]] * b)
    return x.reshape(b * rows * columns, c * frames * patch * patch), grid


def fit(height: int, width: int, unit: int, low: int, high: int) -> tuple[int, int]:
    """The size, in multiples of `unit`, nearest to (height, width) with low..high pixels."""
    scale = min(max(1.0, math.sqrt(low / (height * width))), math.sqrt(high / (height * width)))
    rows = max(unit, round(height * scale / unit) * unit)
    columns = max(unit, round(width * scale / unit) * unit)
    return rows, columns


class PictureReader:
    """Encodes [picture, text] into conditions. `model.language_model` holds the very parameters
    of the text encoder, not copies."""

    def __init__(
        self,
        model: Qwen3VLModel,
        tokenizer: PreTrainedTokenizerBase,
        pixels: tuple[int, int] = PIXELS,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pixels = pixels

    @classmethod
    def load(
        cls, directory: Path, text_encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> PictureReader:
        """The vision tower of a Qwen3-VL directory in front of `text_encoder`; UserError where
        the two do not fit. The language side of the directory is neither read nor needed."""
        if (kind := read_json(directory / "config.json").get("model_type")) != "qwen3_vl":
            raise UserError(f"{directory} holds a {kind} model, but pictures need a qwen3_vl")
        weights: dict[str, Tensor] = {}
        for file in weight_files(directory):
            with safe_open(file, "pt") as stored:
                for key in stored.keys():  # noqa: SIM118 (no dictionary)
                    name = key.removeprefix("model.")
                    if name.startswith("visual."):
                        weights[name.removeprefix("visual.")] = stored.get_tensor(key)
        try:
            config = Qwen3VLConfig.from_pretrained(directory)
            reader = cls.build(config, text_encoder, tokenizer)
            reader.model.visual.load_state_dict(weights)
        except BROKEN as error:
            raise UserError(
                f"the vision tower in {directory} does not fit its config.json: {in_short(error)}"
            ) from error
        reader.model.visual.to(text_encoder.dtype).requires_grad_(False).eval()
        limits = directory / "preprocessor_config.json"
        if limits.is_file():
            size = read_json(limits).get("size", {})
            high = min(size.get("longest_edge", PIXELS[1]), PIXELS[1])
            reader.pixels = (min(size.get("shortest_edge", PIXELS[0]), high), high)
        return reader

    @classmethod
    def build(
        cls,
        config: Qwen3VLConfig,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> PictureReader:
        """A new vision tower in front of `text_encoder`, whose weights become those of the
        language model; `config` takes the text encoder's dimensions and the tokenizer's ids."""
        text, language = text_encoder.config, config.text_config
        if config.vision_config.out_hidden_size != text.hidden_size:
            raise UserError(
                f"the vision tower gives tokens of width {config.vision_config.out_hidden_size}, "
                f"but the text encoder's are {text.hidden_size} wide"
            )
        words = tokenizer.get_vocab()
        if missing := [word for word in (OPEN, PAD, CLOSE) if word not in words]:
            raise UserError(f"the tokenizer has no {missing[0]}, so it cannot place a picture")
        config.vision_start_token_id, config.image_token_id = words[OPEN], words[PAD]
        config.vision_end_token_id = words[CLOSE]
        for name in LANGUAGE:
            setattr(language, name, getattr(text, name))
        language.rope_parameters = {**language.rope_parameters, **text.rope_parameters}
        with torch.device("meta"):  # both halves are put in below
            model = Qwen3VLModel(config)
        model.visual = AutoModel.from_config(config.vision_config)
        # assign: the language model is the text encoder itself, whichever of the two is trained
        model.language_model.load_state_dict(
            dict(text_encoder.named_parameters()), strict=True, assign=True
        )
        # its buffers are in no state dict, so they are still on the meta device
        model.language_model.rotary_emb = type(model.language_model.rotary_emb)(language)
        return cls(model.eval(), tokenizer)

    def save(self, directory: Path, dtype: torch.dtype | None = None) -> None:
        """The vision tower alone, as a Qwen3-VL directory; language weights stay where they are.
        None keeps the type that the weights have."""
        directory.mkdir(parents=True, exist_ok=True)
        self.model.config.save_pretrained(directory)
        weights = {
            f"visual.{name}": value.to(dtype or value.dtype).contiguous()
            for name, value in self.model.visual.state_dict().items()
        }
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        size = {"shortest_edge": self.pixels[0], "longest_edge": self.pixels[1]}
        (directory / "preprocessor_config.json").write_text(json.dumps({"size": size}, indent=2))
        follow_umask(directory)

    def encode(self, prompts: Sequence[str], images: Pixels, max_length: int = 1024) -> Cond:
        """One condition a prompt, read after its picture: hidden_states[-2], padding dropped."""
        if len(prompts) != len(images):
            raise ValueError(
                f"{len(prompts)} prompts but {len(images)} pictures: give one for each"
            )
        vision = self.model.config.vision_config
        unit = vision.patch_size * vision.spatial_merge_size
        height, width = fit(images.shape[-2], images.shape[-1], unit, *self.pixels)
        if (height, width) != images.shape[-2:]:
            images = F.interpolate(images, (height, width), mode="bicubic", antialias=True)
        flat, grid = patches(
            images.clamp(0, 1), vision.patch_size, vision.spatial_merge_size,
            vision.temporal_patch_size,
        )  # fmt: skip
        count = (height // unit) * (width // unit)
        texts = chat(self.tokenizer, [f"{OPEN}{PAD * count}{CLOSE}{prompt}" for prompt in prompts])
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        )
        device = self.model.device
        ids, mask = inputs.input_ids.to(device), inputs.attention_mask.to(device)
        is_picture = (ids == self.model.config.image_token_id).int()
        if int(is_picture.sum()) != count * len(prompts):
            raise UserError(
                f"a prompt is too long to be read beside a picture ({max_length} tokens)"
            )
        hidden = self.model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=flat.to(device),
            image_grid_thw=grid.to(device),
            mm_token_type_ids=is_picture,
            output_hidden_states=True,
        ).hidden_states[-2]
        return Cond(tuple(h[m.bool()].float() for h, m in zip(hidden, mask, strict=True)))
