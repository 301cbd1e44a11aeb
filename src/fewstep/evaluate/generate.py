"""Prompts x seeds -> images. The noise of an image depends on its prompt and seed alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import assert_never

import torch
from torch import nn

from fewstep.families.base import Backbone, Cond, Family
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, Velocity, draw
from fewstep.flow.sigmas import check_grid
from fewstep.flow.variety import (
    ConditionNoise,
    Damped,
    FirstStepBy,
    ScaledNoise,
    Variety,
    by_level,
    noised_condition,
)
from fewstep.rng import Rng
from fewstep.shapes import Latent, Pixels

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
    variety: Variety | None = None
    """What makes the seeds of a prompt differ more; None is the model as it is."""

    def __post_init__(self) -> None:
        for name, values in (("prompts", self.prompts), ("seeds", self.seeds)):
            if not values:
                raise ValueError(f"{name} must not be empty")
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct, or images would be counted twice")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a finite number, got {self.guidance}")
        check_grid(self.sigmas)
        if isinstance(self.variety, FirstStepBy) and len(self.sigmas) < 3:
            raise ValueError("a first step by another model needs at least 2 steps, got 1")

    @property
    def calls(self) -> int:
        """Model calls an image."""
        first = self.variety.guidance if isinstance(self.variety, FirstStepBy) else self.guidance
        weights = [first, *[self.guidance] * (len(self.sigmas) - 2)]
        return sum(1 if w == 1 else 2 for w in weights)

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
            # absent where there is none: earlier records have no such key
            **({} if self.variety is None else {"variety": asdict(self.variety)}),
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
    first: Backbone | None = None,
    progress: Progress = silent,
) -> Pixels:
    """All images of a spec on the CPU, in [0, 1]: all seeds of the first prompt, then the next."""
    batches = stream(family, backbone, spec, batch_size=batch_size, context=context, first=first)
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
    first: Backbone | None = None,
    tasks: Sequence[Task] | None = None,
) -> Iterator[Pixels]:
    """The same images batch by batch, so that a consumer need not hold them all.

    `context` holds one reference picture a prompt; it is read beside its prompt, not by the
    unguided half of guidance. `first` makes the first step where the spec says `FirstStepBy`, and
    reads the same conditions. `tasks` are the images wanted; None is all of the spec.
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
    if (first is not None) != isinstance(spec.variety, FirstStepBy):
        raise ValueError(f"first is for a spec with FirstStepBy, which needs it: {spec.variety}")
    wanted = spec.tasks if tasks is None else tasks
    return _stream(family, backbone, spec, batch_size, context, first, wanted)


def _stream(
    family: Family,
    backbone: Backbone,
    spec: GenerationSpec,
    batch_size: int,
    context: Pixels | None,
    first: Backbone | None,
    tasks: Sequence[Task],
) -> Iterator[Pixels]:
    device = next(backbone.parameters()).device
    shape = family.latent_shape(spec.height, spec.width)
    with torch.no_grad():
        [nothing] = family.encode_text([""]).to(device).tokens
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
            uncond = Cond((nothing,) * len(part))
            ids = names(texts, [seed for _, seed in part])
            # streams that no training draw uses
            eps = Rng(0, 0, "evaluate", ids, device).randn(*shape)
            rng = Rng(0, 0, "condition", ids, device)
            velocity, x = begin(spec, backbone, first, cond, uncond, eps, rng)
            again = Rng(0, 0, "renoise", ids, device)
            x0 = draw(spec.sampler, velocity, x, spec.sigmas, again)
            pixels = family.decode(x0).float().clamp(0, 1).cpu()
        yield pixels


def begin(
    spec: GenerationSpec, backbone: Backbone, first: Backbone | None, cond: Cond, uncond: Cond,
    eps: Latent, rng: Rng,
) -> tuple[Velocity, Latent]:  # fmt: skip
    """The velocity that the sampler follows and the x it begins with: what `spec.variety` means."""
    own = guided(backbone, cond, uncond, w := spec.guidance)
    match spec.variety:
        case None:
            return own, eps
        case FirstStepBy(guidance=other_w):
            assert first is not None  # `stream` sees to it
            return by_level([(spec.sigmas[1], guided(first, cond, uncond, other_w))], own), eps
        case ConditionNoise(strength=strength, share=share, above=above):
            noised = Cond(noised_condition(cond.tokens, rng, strength, share))
            return by_level([(above, guided(backbone, noised, uncond, w))], own), eps
        case Damped(factor=factor, block=block, above=above):
            damped = backbone.damped(factor=factor, block=block, above=above)
            return guided(damped, cond, uncond, w), eps
        case ScaledNoise(scale=scale):
            return own, scale * eps
        case _:
            assert_never(spec.variety)
