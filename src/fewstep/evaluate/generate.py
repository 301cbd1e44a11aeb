"""Prompts x seeds -> images. The noise of an image depends on its prompt and seed alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fewstep.families.base import Backbone, Cond, Family
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, draw
from fewstep.flow.sigmas import check_grid
from fewstep.rng import Rng
from fewstep.shapes import Pixels

Progress = Callable[[int, int], None]
"""Called with (images done, images in all) after every batch."""


Task = tuple[int, int]
"""The row of a prompt in its spec, and a seed."""


def silent(done: int, total: int) -> None:
    """The progress callback that says nothing."""


@dataclass(frozen=True, kw_only=True)
class GenerationSpec:
    """Everything that decides which images are made; goes into every result."""

    model: str
    """What it is called in tables."""
    fingerprint: str
    """Hash of the weights: `Family.fingerprint`, or `fingerprint` below for a student."""
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sigmas: tuple[float, ...]
    """The explicit grid: steps + 1 levels from 1 down to 0."""
    sampler: SamplerName = "euler"
    guidance: float = 1.0
    """w; 1 means none."""
    height: int = 64
    width: int = 64
    context: str | None = None
    """`picture_hash` of the reference pictures that are read beside the prompts; None without."""

    def __post_init__(self) -> None:
        for name, values in (("prompts", self.prompts), ("seeds", self.seeds)):
            if not values:
                raise ValueError(f"{name} must not be empty")
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct, or images would be counted twice")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number, got {self.guidance}")
        check_grid(self.sigmas)

    @property
    def calls(self) -> int:
        """Model calls an image."""
        return (len(self.sigmas) - 1) * (1 if self.guidance == 1 else 2)

    @property
    def tasks(self) -> list[Task]:
        """The images of the spec in their order."""
        return [(row, seed) for row in range(len(self.prompts)) for seed in self.seeds]

    @property
    def total(self) -> int:
        return len(self.prompts) * len(self.seeds)

    def to_json(self) -> dict[str, object]:
        """The spec with the prompts as a count and a hash."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "n_prompts": len(self.prompts),
            "prompts_hash": digest("\n".join(self.prompts).encode()),
            "seeds": list(self.seeds),
            "sigmas": list(self.sigmas),
            "sampler": self.sampler,
            "guidance": self.guidance,
            "model_calls": self.calls,
            "height": self.height,
            "width": self.width,
            "context": self.context,
        }


def digest(data: bytes) -> str:
    """A short name for bytes."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def picture_hash(images: Pixels) -> str:
    """Identifies reference pictures in a spec."""
    return digest(images.detach().cpu().float().contiguous().numpy().tobytes())


def fingerprint(module: nn.Module) -> str:
    """Hash of the names, types, shapes and values of every parameter and buffer."""
    state = hashlib.blake2b(digest_size=8)
    for name, value in sorted(module.state_dict().items()):
        state.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.hexdigest()


def names(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """What the noise of (prompt, seed) pairs hangs on."""
    return [f"{seed}\x1f{prompt}" for prompt, seed in zip(prompts, seeds, strict=True)]


def generate(
    family: Family,
    backbone: Backbone,
    spec: GenerationSpec,
    *,
    batch_size: int = 32,
    context: Pixels | None = None,
    progress: Progress = silent,
) -> Pixels:
    """All images of a spec on the CPU, in [0, 1]: all seeds of the first prompt, then the next."""
    batches = stream(family, backbone, spec, batch_size=batch_size, context=context)
    images: list[Pixels] = []
    done = 0
    for batch in batches:
        images.append(batch)
        done += len(batch)
        progress(done, spec.total)
    return torch.cat(images)


def stream(
    family: Family,
    backbone: Backbone,
    spec: GenerationSpec,
    *,
    batch_size: int = 32,
    context: Pixels | None = None,
    tasks: Sequence[Task] | None = None,
) -> Iterator[Pixels]:
    """The same images batch by batch, so that a consumer need not hold them all.

    `context` holds one reference picture a prompt; it is read beside its prompt, not by the
    unguided half of guidance. `tasks` are the images wanted; None is all of the spec.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    given = None if context is None else picture_hash(context)
    if given != spec.context:
        raise ValueError(
            f"context pictures have hash {given} but the spec says {spec.context}: "
            "set spec.context = picture_hash(pictures)"
        )
    if context is not None and len(context) != len(spec.prompts):
        raise ValueError(
            f"context must hold one picture for each of {len(spec.prompts)} prompts, "
            f"got {len(context)}"
        )
    wanted = spec.tasks if tasks is None else tasks
    return _stream(family, backbone, spec, batch_size, context, wanted)


def _stream(
    family: Family,
    backbone: Backbone,
    spec: GenerationSpec,
    batch_size: int,
    context: Pixels | None,
    tasks: Sequence[Task],
) -> Iterator[Pixels]:
    device = next(backbone.parameters()).device
    shape = family.latent_shape(spec.height, spec.width)
    with torch.no_grad():
        empty = None if spec.guidance == 1 else family.encode_text([""]).to(device)
    for start in range(0, len(tasks), batch_size):
        part = tasks[start : start + batch_size]
        texts = [spec.prompts[row] for row, _ in part]
        # a prompt is read once a batch, however many seeds of it the batch holds
        rows = sorted({row for row, _ in part})
        where = {row: i for i, row in enumerate(rows)}
        with torch.no_grad():
            read = family.encode_text(
                [spec.prompts[row] for row in rows], None if context is None else context[rows]
            )
            cond = read[[where[row] for row, _ in part]].to(device)
            uncond = None if empty is None else Cond(empty.tokens * len(part))
            ids = names(texts, [seed for _, seed in part])
            # streams that no training draw uses
            eps = Rng(0, 0, "evaluate", ids, device).randn(*shape)
            velocity = guided(backbone, cond, uncond, spec.guidance)
            again = Rng(0, 0, "renoise", ids, device)
            x0 = draw(spec.sampler, velocity, eps, spec.sigmas, again)
            pixels = family.decode(x0).float().clamp(0, 1).cpu()
        yield pixels
