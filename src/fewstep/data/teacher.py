"""Which samples are drawn from a teacher, and what decides them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fewstep.data.shards import Row
from fewstep.families.base import Family
from fewstep.hashing import text_hash
from fewstep.rng import Rng
from fewstep.shapes import Pixels

FORMAT = 2

Shown = Callable[[Sequence[str], Sequence[int]], tuple[list[str], Pixels]]
"""Prompts read beside pictures, with these pictures, from (prompt, seed) pairs."""


@dataclass(frozen=True, kw_only=True)
class TeacherSamples:
    """Which samples to draw from the teacher, and how."""

    prompts: int = 4096
    """The first so many training prompts of the world; one sample each."""
    steps: int = 20
    """Euler steps on the model's own grid."""
    guidance: float = 2.0
    """w; 1 is no guidance."""
    seed: int = 0
    noise: Literal["each", "one"] = "each"
    """Every sample from its own noise, or all from one: a set that teaches a student to answer
    every seed with the same picture, the illness that SDA is measured on."""
    height: int = 64
    width: int = 64
    picture_share: float = 0.0
    """Share of the samples with a picture in context beside the prompt."""
    texts: Literal["kept", "live"] = "kept"
    """Conditions lie beside the latents, or the text encoder reads prompts while training: those of
    a large encoder take as much room as the latents, or several times that."""
    batch: int = 32
    """Samples computed together (twice as many passes with guidance). A folder that was begun keeps
    its own number, for products round by it."""
    shard: int = 256
    """Samples in a file, which is also the unit of work that one process takes at a time."""
    rejects: float = 0.01
    """Share of a file's samples that may come out not finite: they are left out and named. More
    end the work."""

    def __post_init__(self) -> None:
        for name in ("prompts", "steps", "height", "width", "batch", "shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be finite, got {self.guidance}")
        if not 0 <= self.picture_share <= 1:
            raise ValueError(f"picture_share must lie in [0, 1], got {self.picture_share}")
        if not 0 <= self.rejects < 1:
            raise ValueError(f"rejects must lie in [0, 1), got {self.rejects}")
        if self.picture_share and self.texts == "live":
            raise ValueError(
                f"picture_share is {self.picture_share:g}, but texts are live, which are read "
                "without pictures: keep them, or set picture_share to 0"
            )


def key_of(
    cfg: TeacherSamples, family: Family, prompts: Sequence[str], shown: Shown | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Everything that decides the samples, and the layout of their files."""
    return {
        "format": FORMAT,
        "model": family.fingerprint(),
        "prompts": len(prompts),
        "prompts_hash": text_hash("\x1f".join(prompts)),
        "seed": cfg.seed,
        "guidance": cfg.guidance,
        "sigmas": list(family.sigmas(cfg.steps)),
        "size": [cfg.height, cfg.width],
        "picture_share": cfg.picture_share,
        "pictures": pictures_hash(shown, prompts) if shown and cfg.picture_share else "",
        "shard": cfg.shard,
        "rejects": cfg.rejects,
        "noise": cfg.noise,
        "texts": cfg.texts,
        **facts,
    }


def pictures_hash(shown: Shown, prompts: Sequence[str]) -> str:
    """Identifies what is shown by a few examples: a change of the world's code that changes no
    picture keeps every sample."""
    few = prompts[:16]
    texts, images = shown(few, range(len(few)))
    grey = (images * 255).round().to(torch.uint8).cpu().numpy()
    return text_hash("\x1f".join([*texts, grey.tobytes().hex()]))


def rows_of(cfg: TeacherSamples, prompts: Sequence[str]) -> list[Row]:
    """Rows by prompt; the id is the prompt's hash, so that order and number change no sample."""
    seen: Counter[str] = Counter()
    rows: list[Row] = []
    for prompt in prompts:
        seen[prompt] += 1
        again = f"-{seen[prompt]}" if seen[prompt] > 1 else ""
        name = text_hash(prompt) + again
        draw = cfg.picture_share and Rng(cfg.seed, 0, "picture?", [name]).rand().item()
        rows.append(Row(name, prompt, draw < cfg.picture_share))
    return rows
