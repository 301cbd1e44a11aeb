"""Drawing teacher samples: conditions, noise, guided Euler steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor

from fewstep.data.batches import bucket
from fewstep.data.shards import Row
from fewstep.data.teacher import Shown, TeacherSamples
from fewstep.families.base import Backbone, Cond, Family
from fewstep.flow.guidance import cfg as guide
from fewstep.flow.sample import Velocity, euler
from fewstep.rng import Rng, seed_of
from fewstep.shapes import Latent, Sigma


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
        velocity = halves(family.backbone, cond[part].to(device), empty, cfg.guidance)
        for i, x in zip(part, euler(velocity, eps, sigmas).cpu(), strict=True):
            x0[i] = x
        done += len(part)
        if done < len(rows):
            drawn(done)
    return rows, torch.stack(x0), cond


def halves(backbone: Backbone, cond: Cond, empty: Cond | None, w: float) -> Velocity:
    """The guided velocity, with and without the prompt in one call of the backbone."""
    if empty is None:
        return lambda x, sigma: backbone(x, sigma, cond)
    both = Cond.cat([cond, *[empty] * len(cond)])

    def velocity(x: Latent, sigma: Sigma) -> Latent:
        v = backbone(torch.cat([x, x]), torch.cat([sigma, sigma]), both)
        v_cond, v_uncond = v.chunk(2)
        return guide(v_cond, v_uncond, w)

    return velocity


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
