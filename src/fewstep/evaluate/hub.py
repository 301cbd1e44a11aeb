"""Extractors whose weights come from a hub or a directory, through transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel

from fewstep.errors import UserError
from fewstep.evaluate.features import Features
from fewstep.evaluate.generate import digest, fingerprint
from fewstep.evaluate.grids import to_bytes
from fewstep.shapes import Pixels

DINOV2 = "facebook/dinov2-large"
"""Of FD-DINOv2 (Stein et al. 2023, arXiv:2306.04675)."""
CLIP_L = "openai/clip-vit-large-patch14-336"
"""Of CMMD (Jayasumana et al. 2024, arXiv:2401.09603)."""
BATCH = 32


class Loaded:
    """A model, frozen, with the image processor that it was trained with."""

    def __init__(self, kind: type, types: Sequence[str], source: str, device: torch.device) -> None:
        """`types` are the values of model_type in config.json that will do."""
        try:
            found = AutoConfig.from_pretrained(source).model_type
            self.model, told = kind.from_pretrained(
                source, dtype=torch.float32, output_loading_info=True
            )
            self.processor = AutoImageProcessor.from_pretrained(source, use_fast=False)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the weights of {source} cannot be loaded ({reason}); give a directory that holds "
                "them behind a colon (clip:DIR, dinov2:DIR), or leave this extractor out"
            ) from None
        if found not in types:
            raise UserError(
                f"{source} holds a model of the type {found}, this needs {' or '.join(types)}"
            )
        if lost := sorted(told["missing_keys"]):  # which transformers fills with random numbers
            raise UserError(
                f"{source} lacks {len(lost)} weights of its model, the first is {lost[0]}; fetch "
                "it again"
            )
        self.model.to(device).eval().requires_grad_(False)
        self.source, self.device = source, device

    @property
    def fingerprint(self) -> str:
        """Of the weights, what is done with them, and what is done to a picture before."""
        config = self.model.config.to_dict()
        for name in ("_name_or_path", "transformers_version"):
            config.pop(name, None)
        rules = json.dumps([config, self.processor.to_dict()], sort_keys=True, default=str)
        return digest(f"{fingerprint(self.model)} {rules}".encode())

    def batches(self, images: Pixels) -> list[Tensor]:
        """Images as the model wants them: resized, cropped and normalised by its own rules."""
        pictures = [Image.fromarray(pixels) for pixels in to_bytes(images)]
        return [
            self.processor(pictures[i : i + BATCH], return_tensors="pt")["pixel_values"].to(
                self.device
            )
            for i in range(0, len(pictures), BATCH)
        ]


def array(parts: Sequence[Tensor]) -> Features:
    return torch.cat(list(parts)).float().cpu().numpy()


class DINOv2:
    """The class token of a DINOv2 after its last norm."""

    name = "dinov2"

    def __init__(self, source: str | None, device: torch.device) -> None:
        types = ("dinov2", "dinov2_with_registers")
        self.loaded = Loaded(AutoModel, types, source or DINOV2, device)
        self.fingerprint = self.loaded.fingerprint

    @torch.no_grad()
    def __call__(self, images: Pixels) -> Features:
        model = self.loaded.model
        return array([
            model(pixel_values=b).last_hidden_state[:, 0] for b in self.loaded.batches(images)
        ])  # fmt: skip


class CLIP:
    """Projected image embeddings of length 1, and those of texts."""

    name = "clip"

    def __init__(self, source: str | None, device: torch.device) -> None:
        self.loaded = Loaded(CLIPModel, ("clip",), source or CLIP_L, device)
        self.fingerprint = self.loaded.fingerprint
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.loaded.source)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the tokenizer of {self.loaded.source} cannot be loaded ({reason})"
            ) from None

    @torch.no_grad()
    def __call__(self, images: Pixels) -> Features:
        found = array([
            self.loaded.model.get_image_features(pixel_values=b).pooler_output
            for b in self.loaded.batches(images)
        ])  # fmt: skip
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Features:
        """(n, d) of length 1. What is longer than the model reads is cut, as CLIPScore has it."""
        parts: list[Tensor] = []
        for i in range(0, len(prompts), BATCH):
            tokens = self.tokenizer(
                list(prompts[i : i + BATCH]), padding=True, truncation=True, return_tensors="pt"
            ).to(self.loaded.device)
            parts.append(self.loaded.model.get_text_features(**tokens).pooler_output)
        found = array(parts)
        return found / np.linalg.norm(found, axis=1, keepdims=True)
