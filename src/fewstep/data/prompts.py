"""Prompts as samples, for methods that make their own pictures while they train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from fewstep.data.told import Told, quiet
from fewstep.families.base import Cond
from fewstep.hashing import text_hash
from fewstep.shapes import Latent

AT_ONCE = 64
"""Prompts encoded together."""


class Encoder(Protocol):
    def __call__(self, prompts: Sequence[str]) -> Cond: ...


class PromptSamples:
    """`fewstep.data.batches.Samples` whose x0 is 0: its shape alone means something.

    The prompts must differ; the id is the prompt's hash, so that order and number change nothing.
    All conditions are encoded at the start and kept in memory.
    """

    def __init__(
        self, prompts: Sequence[str], encode: Encoder, shape: tuple[int, int, int],
        told: Told = quiet,
    ) -> None:  # fmt: skip
        self.ids = tuple(text_hash(prompt) for prompt in prompts)
        parts: list[Cond] = []
        for i in range(0, len(prompts), AT_ONCE):
            parts.append(encode(prompts[i : i + AT_ONCE]))
            told("encoding prompts", i + len(parts[-1]), len(prompts))
        self.cond = Cond.cat(parts)
        self.shape = shape

    @property
    def lengths(self) -> Sequence[int]:
        return [len(tokens) for tokens in self.cond.tokens]

    def take(self, rows: Sequence[int]) -> tuple[Latent, Cond]:
        return torch.zeros(len(rows), *self.shape), self.cond[rows]
