"""Teacher samples: what the student is trained on, computed once and cached.

A sample depends on (model, prompt, seed, guidance, grid) and on how prompts are read, pictures are
shown and products are computed; on nothing else: not on its place in the list, not on an
interruption, and not on the batch it was computed in, up to the rounding of the products: where
that is coarse (bfloat16) `facts` should hold the size of the batch.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from fewstep.data.batches import bucket
from fewstep.data.cache import (
    CACHE,
    Key,
    Row,
    SampleCache,
    alone,
    check_key,
    is_complete,
    shard_path,
    write_shard,
)
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.families.base import Cond, Family
from fewstep.flow.guidance import guided
from fewstep.flow.sample import euler
from fewstep.hashing import text_hash
from fewstep.rng import Rng, seed_of
from fewstep.runs import write_atomic
from fewstep.shapes import Latent, Pixels

FORMAT = 1

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
    batch: int = 32
    """Samples computed together."""
    shard: int = 256
    """Samples in a file."""

    def __post_init__(self) -> None:
        for name in ("prompts", "steps", "height", "width", "batch", "shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be finite, got {self.guidance}")
        if not 0 <= self.picture_share <= 1:
            raise ValueError(f"picture_share must lie in [0, 1], got {self.picture_share}")


def key_of(
    cfg: TeacherSamples, family: Family, prompts: Sequence[str], shown: Shown | None,
    facts: Mapping[str, Any],
) -> Key:  # fmt: skip
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
        # only where it is not what samples of before were drawn with
        **({} if cfg.noise == "each" else {"noise": cfg.noise}),
        **facts,
    }


def pictures_hash(shown: Shown, prompts: Sequence[str]) -> str:
    """Identifies what is shown by a few examples: a change of the world's code that changes no
    picture keeps every sample."""
    few = prompts[:16]
    texts, images = shown(few, range(len(few)))
    grey = (images * 255).round().to(torch.uint8).cpu().numpy()
    return text_hash("\x1f".join([*texts, grey.tobytes().hex()]))


def noise_of(
    cfg: TeacherSamples, ids: Sequence[str], shape: tuple[int, int, int], device: torch.device
) -> Latent:
    """(b, c, h, w): the noise that samples of these ids are drawn from."""
    match cfg.noise:
        case "each":
            return Rng(cfg.seed, 0, "teacher", ids, device).randn(*shape)
        case "one":
            one = Rng(cfg.seed, 0, "teacher", ["one"], device).randn(*shape)
            return one.expand(len(ids), *shape)
        case _:
            assert_never(cfg.noise)


def rows_of(cfg: TeacherSamples, prompts: Sequence[str]) -> list[Row]:
    """Rows by prompt; the id is the prompt's hash, so that order and number change no sample."""
    seen: Counter[str] = Counter()
    rows: list[Row] = []
    for prompt in prompts:
        seen[prompt] += 1
        again = f"-{seen[prompt]}" if seen[prompt] > 1 else ""
        name = text_hash(prompt) + again
        draw = Rng(cfg.seed, 0, "picture?", [name]).rand().item()
        rows.append(Row(name, prompt, draw < cfg.picture_share))
    return rows


def precompute(
    cfg: TeacherSamples,
    family: Family,
    prompts: Sequence[str],
    root: Path,
    *,
    shown: Shown | None = None,
    facts: Mapping[str, Any] | None = None,
    directory: Path | None = None,
    told: Told = quiet,
) -> SampleCache:
    """The cached samples, after computing whatever is missing of them.

    root       holds one directory for each key; or `directory` says where, and must fit the key
    shown      needed where `cfg.picture_share` > 0
    facts      goes into the key: what decides the samples and is not seen here (JSON values)

    Calling it again after an interruption goes on at the first unfinished shard; two processes
    take turns. Raises UserError if the directory holds other samples or a damaged shard or cannot
    be written, and for a sample that is not finite.
    """
    if cfg.picture_share and shown is None:
        raise ValueError("picture_share > 0 needs pictures, but this world offers none")
    key = key_of(cfg, family, prompts, shown, facts or {})
    directory = directory or root / text_hash(json.dumps(key, sort_keys=True))
    rows = rows_of(cfg, prompts)
    shards = -(-len(rows) // cfg.shard)
    with alone(directory):
        if not check_key(directory, key):
            write_atomic(directory / CACHE, json.dumps(key, indent=1).encode() + b"\n")
        for index in range(shards):
            path = shard_path(directory, index)
            first = index * cfg.shard
            part = rows[first : first + cfg.shard]

            def drawn(done: int, first: int = first) -> None:
                told("teacher samples", first + done, len(rows))

            if not is_complete(path):
                read, x0, cond = draw(cfg, family, part, shown, drawn)
                check_finite(cfg, read, x0, cond, first)
                write_shard(path, read, x0, cond)
            drawn(len(part))
    return SampleCache(directory, key, shards)


@torch.no_grad()
def draw(
    cfg: TeacherSamples, family: Family, rows: Sequence[Row], shown: Shown | None,
    drawn: Callable[[int], None],
) -> tuple[list[Row], Latent, Cond]:  # fmt: skip
    """The rows as they were read, x0 and conditions: guided Euler samples of the backbone.

    `drawn` hears how many of them there are, after each batch but the last.
    """
    device = next(family.backbone.parameters()).device
    shape = family.latent_shape(cfg.height, cfg.width)
    sigmas = family.sigmas(cfg.steps)
    empty = None if cfg.guidance == 1 else family.encode_text([""]).to(device)
    rows, cond = conditions(cfg, family, rows, shown)
    x0: list[Tensor] = [torch.empty(0)] * len(rows)
    done = 0
    for part in chunks([bucket(len(tokens)) for tokens in cond.tokens], cfg.batch):
        eps = noise_of(cfg, [rows[i].id for i in part], shape, device)
        uncond = None if empty is None else Cond(empty.tokens * len(part))
        velocity = guided(family.backbone, cond[part].to(device), uncond, cfg.guidance)
        for i, x in zip(part, euler(velocity, eps, sigmas).cpu(), strict=True):
            x0[i] = x
        done += len(part)
        if done < len(rows):
            drawn(done)
    return rows, torch.stack(x0), cond


def chunks(buckets: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in groups of one bucket each: the least padding, and one shape for a fast engine."""
    for same in sorted(set(buckets)):
        own = [i for i, found in enumerate(buckets) if found == same]
        for start in range(0, len(own), size):
            yield own[start : start + size]


def conditions(
    cfg: TeacherSamples, family: Family, rows: Sequence[Row], shown: Shown | None
) -> tuple[list[Row], Cond]:
    """Conditions in the order of the rows, and the rows with the prompts that were read: beside a
    picture it may be another one than the row asked for."""
    read = list(rows)
    tokens: list[Tensor] = [torch.empty(0)] * len(rows)
    for picture in (False, True):
        own = [i for i, row in enumerate(rows) if row.picture is picture]
        for start in range(0, len(own), cfg.batch):
            part = own[start : start + cfg.batch]
            texts = [rows[i].prompt for i in part]
            images = None
            if picture:
                assert shown is not None
                seeds = [seed_of(cfg.seed, "picture", rows[i].id) for i in part]
                texts, images = shown(texts, seeds)
            found = family.encode_text(texts, images).tokens
            for i, text, t in zip(part, texts, found, strict=True):
                tokens[i] = t.cpu()
                read[i] = replace(rows[i], prompt=text)
    return read, Cond(tuple(tokens))


def check_finite(
    cfg: TeacherSamples, rows: Sequence[Row], x0: Latent, cond: Cond, first: int
) -> None:
    """UserError names a sample that is not finite; `first` is the index of the first row."""
    for i, (row, x, tokens) in enumerate(zip(rows, x0, cond.tokens, strict=True), first):
        if not (x.isfinite().all() and tokens.isfinite().all()):
            raise UserError(
                f"the teacher's sample {i} (prompt {row.prompt!r}, seed {cfg.seed}) is not finite; "
                "try dtype = float32 or engine = plain, and see whether the model draws at all"
            )
