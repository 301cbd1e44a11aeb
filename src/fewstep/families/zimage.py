"""Z-Image (Tongyi-MAI): the only place that knows its conventions.

The transformer wants t = 1 - sigma, returns x0 - eps = -v, takes and gives lists of (C, 1, H, W),
and its sequence is [image | text]. The pipeline's guidance g is our w = g + 1.

A picture in context is read by a Qwen3-VL whose language weights are the model's own text encoder
(D-OPSD, arXiv:2605.05204): only the vision tower comes from the Qwen3-VL directory, so whatever
language weights lie there are never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import AutoencoderKL, ZImagePipeline, ZImageTransformer2DModel
from torch import Tensor, nn
from transformers import AutoModel

from fewstep.errors import UserError
from fewstep.families.base import Backbone, Cond
from fewstep.families.directory import (
    BROKEN,
    check_pipeline,
    fetch,
    follow_umask,
    in_short,
    load_part,
)
from fewstep.families.pictures import PictureReader
from fewstep.families.tap import tap
from fewstep.families.text import LONGEST, read
from fewstep.flow import sigmas
from fewstep.flow.sample import SamplerName
from fewstep.hashing import text_hash
from fewstep.shapes import Latent, Pixels, Sigma, Tokens

MULTIPLE = 32
"""Z-Image pads text and image tokens to multiples of this."""
PICTURE_ENCODER = "picture_encoder"
"""Folder inside a model directory that holds a Qwen3-VL (its vision tower is what is read)."""


class ZImageBackbone(Backbone):
    """`ZImageTransformer2DModel` in the project's convention."""

    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention": tuple(f"layers.*.attention.{p}" for p in ("to_q", "to_k", "to_v", "to_out.0")),
        "feed_forward": tuple(f"layers.*.feed_forward.{p}" for p in ("w1", "w2", "w3")),
        "modulation": ("layers.*.adaLN_modulation.0",),
        "text": (
            "cap_embedder.1",
            *(f"context_refiner.*.attention.{p}" for p in ("to_q", "to_k", "to_v", "to_out.0")),
            *(f"context_refiner.*.feed_forward.{p}" for p in ("w1", "w2", "w3")),
        ),
    }

    def __init__(self, transformer: ZImageTransformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.depth = len(transformer.layers)
        self.width = transformer.config["dim"]
        self.cond_width = transformer.config["cap_feat_dim"]
        self.patch = transformer.config["all_patch_size"][0]

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        dtype = self.transformer.dtype
        out = self.transformer(
            list(x.to(dtype).unsqueeze(2).unbind(0)),
            1 - sigma.float(),
            [tokens.to(dtype) for tokens in cond.tokens],
            return_dict=False,
        )[0]
        return -torch.stack(out).squeeze(2).float()

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        self.check_layers(layers)
        rows, columns = self.token_grid(x)
        with tap(self.transformer.layers, layers) as seen:
            self(x, sigma, cond)
        # image tokens come first, then their padding and the text
        return [seen[i][:, : rows * columns].float() for i in layers]

    def check_layers(self, layers: Sequence[int]) -> None:
        wrong = [i for i in layers if not 0 <= i < self.depth]
        if wrong or not layers:
            raise ValueError(f"layers must be within 0..{self.depth - 1}, got {list(layers)}")

    def damped(self, *, factor: float, block: int, above: float) -> Backbone:
        from fewstep.families.damping import DampedZImage  # which stands on this file

        return DampedZImage(self, factor=factor, block=block, above=above)

    def token_grid(self, x: Latent) -> tuple[int, int]:
        return x.shape[-2] // self.patch, x.shape[-1] // self.patch


class ZImage:
    """A Z-Image model directory: transformer, text encoder, VAE, scheduler, and a picture reader
    where the directory has one."""

    def __init__(self, pipeline: ZImagePipeline, pictures: PictureReader | None) -> None:
        if pipeline.scheduler.config.use_dynamic_shifting:
            raise UserError(
                "the scheduler has use_dynamic_shifting on; Z-Image uses a static shift"
            )
        self.pipeline = pipeline
        self.backbone: Backbone = ZImageBackbone(pipeline.transformer)
        self.pictures = pictures
        self.resting = False
        self.packed_from: str | None = None
        """The fingerprint before blocks were packed (`experiment.packing`)."""
        self.packed_as: str | None = None
        for part in (pipeline.transformer, pipeline.text_encoder, pipeline.vae):
            part.requires_grad_(False).eval()

    @classmethod
    def load(
        cls,
        source: str | Path,
        dtype: torch.dtype = torch.float32,
        picture_encoder: str | Path | None = None,
    ) -> ZImage:
        """From a diffusers directory or a hub id; UserError where it is not a whole Z-Image.

        picture_encoder  a Qwen3-VL, directory or hub id, whose vision tower reads pictures; None
                         takes the folder of that name in the model, if there is one
        """
        path = fetch(source)
        check_pipeline(
            path, "ZImagePipeline",
            ("transformer", "text_encoder", "vae", "tokenizer", "scheduler"),
        )  # fmt: skip
        parts = {
            "transformer": load_part(ZImageTransformer2DModel, path / "transformer", dtype),
            # mismatched shapes are then told by name
            "text_encoder": load_part(
                AutoModel, path / "text_encoder", dtype,
                ignore_mismatched_sizes=True, trust_remote_code=False,
            ),
            "vae": load_part(AutoencoderKL, path / "vae", dtype),
        }  # fmt: skip
        try:
            pipeline = ZImagePipeline.from_pretrained(str(path), **parts)
        except BROKEN as error:
            raise UserError(
                f"the tokenizer or scheduler in {path} cannot be loaded: {in_short(error)}"
            ) from error
        tower = path / PICTURE_ENCODER
        if picture_encoder is not None:
            tower = fetch(picture_encoder, "picture encoder")
        reader = (
            PictureReader.load(tower, pipeline.text_encoder, pipeline.tokenizer)
            if tower.is_dir()
            else None
        )
        return cls(pipeline, reader)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        """Conditions of the prompts (hidden_states[-2] without padding); with images, of
        [picture, text] read in context. UserError where there is no picture encoder."""
        if images is None:
            with self.awake():
                encoder = self.pipeline.text_encoder
                return read(encoder, self.pipeline.tokenizer, prompts, self.longest)
        if self.pictures is None:
            raise UserError(
                f"this model has no {PICTURE_ENCODER}/ folder, so it cannot read pictures; "
                "load it with a Qwen3-VL as its picture encoder"
            )
        with self.awake():
            return self.pictures.encode(prompts, images)

    def rest(self) -> None:
        """From now on keep what reads prompts and pictures in main memory, but while it reads: a
        large text encoder beside a model that trains takes 8 GB for nothing."""
        self.resting = True
        self.move_readers(torch.device("cpu"))

    @contextmanager
    def awake(self) -> Iterator[None]:
        if self.resting:
            self.move_readers(self.pipeline.transformer.device)
        try:
            yield
        finally:
            if self.resting:
                self.move_readers(torch.device("cpu"))

    def move_readers(self, device: torch.device) -> None:
        self.pipeline.text_encoder.to(device)
        if self.pictures is not None:  # its language weights are the text encoder's
            nn.Module.to(self.pictures.model, device)

    @property
    def longest(self) -> int:
        """Tokens of a prompt that are read: as many as the pipeline reads, or the transformer has
        places for where these are fewer (the picture has the place after the padded text)."""
        places = self.pipeline.transformer.config["axes_lens"][0]
        return min(LONGEST, (places - 2) // MULTIPLE * MULTIPLE)

    @torch.no_grad()
    def encode_image(self, images: Pixels) -> Latent:
        vae = self.pipeline.vae
        z = vae.encode(images.to(vae.dtype) * 2 - 1).latent_dist.mode().float()
        return (z - vae.config.shift_factor) * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x0: Latent) -> Pixels:
        return self.decode_with_gradients(x0).clamp(0, 1)

    def decode_with_gradients(self, x0: Latent) -> Tensor:
        vae = self.pipeline.vae
        z = x0 / vae.config.scaling_factor + vae.config.shift_factor
        return vae.decode(z.to(vae.dtype)).sample.float() / 2 + 0.5

    @property
    def unit(self) -> int:
        return self.pipeline.vae_scale_factor * 2  # a patch is two latent pixels wide

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        if min(height, width) < self.unit or height % self.unit or width % self.unit:
            raise UserError(
                f"height and width must be positive multiples of {self.unit}, got "
                f"{height} x {width}"
            )
        scale = self.pipeline.vae_scale_factor
        return self.pipeline.transformer.config["in_channels"], height // scale, width // scale

    def sigmas(self, steps: int) -> tuple[float, ...]:
        return sigmas.grid(steps, self.pipeline.scheduler.config.shift)

    @property
    def sampler(self) -> SamplerName:
        return "renoise" if self.pipeline.scheduler.config.stochastic_sampling else "euler"

    def pipeline_guidance(self, w: float) -> float:
        return w - 1

    def fingerprint(self, backbone: Backbone | None = None) -> str:
        if backbone is None and self.packed_as is not None:
            # whatever device has rounded the scales
            return text_hash(f"{self.packed_from} {self.packed_as}")
        digest = hashlib.blake2b(digest_size=16)
        parts: dict[str, nn.Module] = {
            "transformer": (
                self.pipeline.transformer if backbone is None else transformer_of(backbone)
            ),
            "text_encoder": self.pipeline.text_encoder,
            "vae": self.pipeline.vae,
        }
        if self.pictures is not None:
            parts["visual"] = self.pictures.model.visual
        for part, module in parts.items():
            for name, value in sorted(module.state_dict().items()):
                digest.update(f"{part}.{name}:{value.dtype}:{tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def identity(self) -> str:
        """The fingerprint of the model in its directory, whatever has been packed of it since."""
        return self.packed_from or self.fingerprint()

    def save(self, directory: Path, backbone: Backbone, sampler: SamplerName | None = None) -> None:
        """Write an ordinary diffusers directory around `backbone`, picture encoder included."""
        old = self.pipeline.scheduler
        stochastic = (sampler or self.sampler) == "renoise"
        scheduler = type(old).from_config(old.config, stochastic_sampling=stochastic)
        parts = {
            **self.pipeline.components,
            "transformer": transformer_of(backbone), "scheduler": scheduler,
        }  # fmt: skip
        ZImagePipeline(**parts).save_pretrained(directory)
        if self.pictures is not None:
            self.pictures.save(directory / PICTURE_ENCODER)
        for config in directory.glob("*/config.json"):
            # where the parts once lay is nobody's business
            fields = json.loads(config.read_text())
            fields.pop("_name_or_path", None)
            config.write_text(json.dumps(fields, indent=2) + "\n")
        follow_umask(directory)


def transformer_of(backbone: Backbone) -> ZImageTransformer2DModel:
    if not isinstance(backbone, ZImageBackbone):
        raise TypeError(
            f"a Z-Image directory needs a ZImageBackbone, got {type(backbone).__name__}"
        )
    return backbone.transformer
