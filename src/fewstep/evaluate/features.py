"""Features: arrays for images, computed once and kept under the hash of image and extractor.

An extractor is chosen by name, with a hub id or a directory behind a colon where it has weights of
its own: "shapes", "pixels", "inception", "dinov2", "dinov2:facebook/dinov2-base", "clip:DIR".
Everything that is measured afterwards is a pure function of the arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fewstep.errors import UserError
from fewstep.evaluate.generate import digest
from fewstep.evaluate.grids import to_bytes
from fewstep.evaluate.lpips import TRUNKS
from fewstep.runs import write_atomic
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.features import WEIGHTS, extract, load_features

Features = NDArray[np.float32]
Hashes = NDArray[np.uint8]
"""(n, 16): the hash of each image."""

PIXEL_SIDE = 16
"""`pixels` sees an image shrunk to this side: what is where, without fine detail."""


class Extractor(Protocol):
    @property
    def name(self) -> str:
        """What the metrics of its features are called after."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides its features."""
        ...

    def __call__(self, images: Pixels) -> Features:
        """(n, d) of images in [0, 1]."""
        ...


class ShapesExtractor:
    """The network that ships with the Shapes world."""

    name = "shapes"

    def __init__(self) -> None:
        self.net = load_features()
        self.fingerprint = digest(WEIGHTS.read_bytes())

    def __call__(self, images: Pixels) -> Features:
        return extract(self.net, images).astype(np.float32)


class PixelExtractor:
    """Colours of a coarse grid, from -1 to 1."""

    name = "pixels"
    fingerprint = f"area{PIXEL_SIDE}"

    def __call__(self, images: Pixels) -> Features:
        small = torch.nn.functional.adaptive_avg_pool2d(images.float().cpu(), PIXEL_SIDE)
        return (2 * small - 1).flatten(1).numpy()


def image_hashes(images: Pixels) -> Hashes:
    """Of the eight-bit pictures: what a PNG holds."""
    return np.stack([
        np.frombuffer(
            hashlib.blake2b(f"{pixels.shape}".encode() + pixels.tobytes(), digest_size=16).digest(),
            np.uint8,
        )
        for pixels in to_bytes(images)
    ])  # fmt: skip


class FeatureCache:
    """Features of one extractor that were computed before, in a folder of shards.

    NAME-FINGERPRINT/HASH.safetensors holds `features` (n, d) float32 and `hashes` (n, 16); a shard
    says whose features it holds, and another extractor's are refused. The newest shard is written
    by `flush`, whole or not at all.
    """

    def __init__(self, root: Path, extractor: Extractor) -> None:
        self.extractor = extractor
        self.folder = root / f"{extractor.name}-{extractor.fingerprint}"
        self.known: dict[bytes, Features] = {}
        self.fresh: dict[bytes, Features] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self.known.update(self.read(path))

    def read(self, path: Path) -> dict[bytes, Features]:
        try:
            with safe_open(path, framework="np") as file:
                said = file.metadata() or {}
                hashes, features = file.get_tensor("hashes"), file.get_tensor("features")
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"the feature cache {path} is damaged ({error}); delete it, it is made again"
            ) from None
        found = f"{said.get('extractor')}-{said.get('fingerprint')}"
        if found != self.folder.name:
            raise UserError(
                f"the feature cache {path} holds features of {found}, not of {self.folder.name}; "
                "move it back to its own folder or delete it"
            )
        return {key.tobytes(): row for key, row in zip(hashes, features, strict=True)}

    def __call__(self, images: Pixels, hashes: Hashes | None = None) -> Features:
        """(n, d), of the cache where they are there; `hashes` are `image_hashes(images)`."""
        hashes = image_hashes(images) if hashes is None else hashes
        keys = [key.tobytes() for key in hashes]
        missing = [i for i, key in enumerate(keys) if key not in self.known]
        if missing:
            found = self.extractor(images[missing])
            if not np.isfinite(found).all():
                raise UserError(
                    f"the extractor {self.extractor.name} gives features that are not finite; "
                    "look at its weights"
                )
            for i, row in zip(missing, found, strict=True):
                self.known[keys[i]] = self.fresh[keys[i]] = row
        return np.stack([self.known[key] for key in keys])

    def flush(self) -> None:
        """Keep what was computed since the last flush."""
        if not self.fresh:
            return
        hashes = np.stack([np.frombuffer(key, np.uint8) for key in self.fresh])
        said = {"extractor": self.extractor.name, "fingerprint": self.extractor.fingerprint}
        self.folder.mkdir(parents=True, exist_ok=True)
        data = save({"hashes": hashes, "features": np.stack(list(self.fresh.values()))}, said)
        write_atomic(self.folder / f"{digest(hashes.tobytes())}.safetensors", data)
        self.fresh.clear()


def make_shapes(source: str | None, device: torch.device) -> Extractor:
    return ShapesExtractor()


def make_pixels(source: str | None, device: torch.device) -> Extractor:
    return PixelExtractor()


def make_dinov2(source: str | None, device: torch.device) -> Extractor:
    from fewstep.evaluate.hub import DINOv2  # transformers' models take seconds to import

    return DINOv2(source, device)


def make_clip(source: str | None, device: torch.device) -> Extractor:
    from fewstep.evaluate.hub import CLIP

    return CLIP(source, device)


def make_inception(source: str | None, device: torch.device) -> Extractor:
    from fewstep.evaluate.inception import Inception

    return Inception(source, device)


EXTRACTORS: dict[str, Callable[[str | None, torch.device], Extractor]] = {
    "shapes": make_shapes,
    "pixels": make_pixels,
    "inception": make_inception,
    "dinov2": make_dinov2,
    "clip": make_clip,
}
OWN_WEIGHTS = ("shapes", "pixels")
"""Extractors that take no other source."""


def parse_extractor(text: str) -> tuple[str, str | None]:
    """("clip", "DIR") of "clip:DIR"; UserError for an unknown name."""
    name, colon, source = text.partition(":")
    if name not in EXTRACTORS:
        known = ", ".join([*EXTRACTORS, *TRUNKS])
        raise UserError(f"there is no extractor {name!r}; there are {known}")
    if colon and (not source or name in OWN_WEIGHTS):
        raise UserError(
            f"the extractor {name} has weights of its own; leave {text[len(name) :]!r} out"
            if name in OWN_WEIGHTS
            else f"{text!r} names no weights behind the colon; give a hub id or a directory"
        )
    return name, source or None


def make_extractors(texts: Sequence[str], device: torch.device) -> list[Extractor]:
    """The extractors of these names; UserError for one named twice, unknown or not installed."""
    parsed = [parse_extractor(text) for text in texts]
    names = [name for name, _ in parsed]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"the extractor {twice.pop()} is named twice; name it once")
    return [EXTRACTORS[name](source, device) for name, source in parsed]
