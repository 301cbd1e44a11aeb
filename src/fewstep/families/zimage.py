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
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from torch import Tensor, nn

from fewstep.errors import UserError
from fewstep.families.base import Backbone, Cond
from fewstep.families.pictures import PictureReader
from fewstep.families.text import read
from fewstep.flow import sigmas
from fewstep.shapes import Latent, Pixels, Sigma, Tokens

PICTURE_ENCODER = "picture_encoder"
"""Folder inside a model directory that holds a Qwen3-VL (its vision tower is what is read)."""


class _Deepest(Exception):
    """Raised by the hook on the deepest tapped block: nothing after it is needed."""


class ZImageBackbone(Backbone):
    """`ZImageTransformer2DModel` in the project's convention."""

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
        with self._tap(max(layers), set(layers)) as seen:
            self(x, sigma, cond)
        # image tokens come first, then their padding and the text
        return [seen[i][:, : rows * columns].float() for i in layers]

    def check_layers(self, layers: Sequence[int]) -> None:
        wrong = [i for i in layers if not 0 <= i < self.depth]
        if wrong or not layers:
            raise ValueError(f"layers must be within 0..{self.depth - 1}, got {list(layers)}")

    @contextmanager
    def _tap(self, deepest: int, layers: set[int]) -> Iterator[dict[int, Tensor]]:
        """Record block outputs and leave the forward pass after the deepest one.

        Under activation checkpointing the recomputation in backward() may run the hooks again:
        a block that is recorded already is left alone, so gradients are those of one plain pass.
        """
        seen: dict[int, Tensor] = {}

        def recorder(i: int) -> Callable[[nn.Module, object, Tensor], None]:
            def hook(_module: nn.Module, _inputs: object, out: Tensor) -> None:
                if i in seen:
                    return
                seen[i] = out
                if i == deepest:
                    raise _Deepest

            return hook

        blocks = self.transformer.layers
        handles = [blocks[i].register_forward_hook(recorder(i)) for i in layers]
        try:
            yield seen
        except _Deepest:
            pass
        finally:
            for handle in handles:
                handle.remove()

    def token_grid(self, x: Latent) -> tuple[int, int]:
        return x.shape[-2] // self.patch, x.shape[-1] // self.patch


class ZImage:
    """A Z-Image model directory: transformer, text encoder, VAE, scheduler, and a picture reader
    where the directory has one."""

    def __init__(
        self, pipeline: ZImagePipeline, pictures: PictureReader | None, source: Path | None = None
    ) -> None:
        if pipeline.scheduler.config.use_dynamic_shifting:
            raise UserError(
                "the scheduler has use_dynamic_shifting on; Z-Image uses a static shift"
            )
        self.pipeline = pipeline
        self.backbone: Backbone = ZImageBackbone(pipeline.transformer)
        self.pictures = pictures
        self.source = source
        for part in (pipeline.transformer, pipeline.text_encoder, pipeline.vae):
            part.requires_grad_(False).eval()

    @classmethod
    def load(cls, source: str | Path, dtype: torch.dtype = torch.float32) -> ZImage:
        """From a diffusers directory, or from a hub id where one is given; UserError otherwise."""
        path = Path(source)
        if path.exists() and not (path / "model_index.json").is_file():
            raise UserError(
                f"{path} is not a diffusers model directory: it has no model_index.json"
            )
        if not path.exists() and (path.is_absolute() or str(source).count("/") != 1):
            raise UserError(
                f"model {str(source)!r} does not exist: give a diffusers directory or a hub id"
            )
        try:
            pipeline = ZImagePipeline.from_pretrained(str(source), dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"model {str(source)!r} cannot be loaded as Z-Image: {error}"
            ) from error
        tower = path / PICTURE_ENCODER
        reader = (
            PictureReader.load(tower, pipeline.text_encoder, pipeline.tokenizer)
            if tower.is_dir()
            else None
        )
        return cls(pipeline, reader, path if path.exists() else None)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        """Conditions of the prompts (hidden_states[-2] without padding); with images, of
        [picture, text] read in context. UserError where the directory has no picture encoder."""
        if images is not None:
            if self.pictures is None:
                raise UserError(
                    f"this model has no {PICTURE_ENCODER}/ folder, so it cannot read pictures"
                )
            return self.pictures.encode(prompts, images)
        return read(self.pipeline.text_encoder, self.pipeline.tokenizer, prompts)

    @torch.no_grad()
    def encode_image(self, images: Pixels) -> Latent:
        vae = self.pipeline.vae
        z = vae.encode(images.to(vae.dtype) * 2 - 1).latent_dist.mode().float()
        return (z - vae.config.shift_factor) * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x0: Latent) -> Pixels:
        vae = self.pipeline.vae
        z = x0 / vae.config.scaling_factor + vae.config.shift_factor
        return (vae.decode(z.to(vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        unit = self.pipeline.vae_scale_factor * 2
        if height % unit or width % unit:
            raise UserError(f"height and width must be multiples of {unit}, got {height} x {width}")
        scale = self.pipeline.vae_scale_factor
        return self.pipeline.transformer.config["in_channels"], height // scale, width // scale

    def sigmas(self, steps: int) -> tuple[float, ...]:
        return sigmas.grid(steps, self.pipeline.scheduler.config.shift)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        parts: dict[str, nn.Module] = {
            "transformer": self.pipeline.transformer,
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

    def save(self, directory: Path, backbone: Backbone) -> None:
        """Write an ordinary diffusers directory around `backbone`, picture encoder included."""
        if not isinstance(backbone, ZImageBackbone):
            raise TypeError(
                f"a Z-Image directory needs a ZImageBackbone, got {type(backbone).__name__}"
            )
        parts = {**self.pipeline.components, "transformer": backbone.transformer}
        ZImagePipeline(**parts).save_pretrained(directory)
        for config in directory.glob("*/config.json"):
            # where the parts once lay is nobody's business
            fields = json.loads(config.read_text())
            fields.pop("_name_or_path", None)
            config.write_text(json.dumps(fields, indent=2) + "\n")
        if self.source is not None and (self.source / PICTURE_ENCODER).is_dir():
            shutil.copytree(
                self.source / PICTURE_ENCODER, directory / PICTURE_ENCODER, dirs_exist_ok=True
            )
