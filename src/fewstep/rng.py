"""Randomness is an argument: one stream for each (seed, step, phase, sample id).

A sample draws the same numbers whatever batch, rank or restart it is in, so splitting a batch,
resuming a run or changing the number of processes cannot change a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Rng:
    """Random draws for one batch: row i comes from the stream of sample ids[i].

    Draws happen on the CPU in float32 and are moved to `device`, so a GPU sees the same numbers.
    Successive calls continue each stream.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        phase: str,
        ids: Sequence[str | int],
        device: torch.device | str = "cpu",
    ) -> None:
        if len(set(ids)) != len(ids):
            raise ValueError("sample ids in one batch must differ, or rows would share their noise")
        self.key = (seed, step, phase)
        self.ids = tuple(ids)
        self.device = torch.device(device)

    @cached_property
    def streams(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed_of(*self.key, i)) for i in self.ids]

    def randn(self, *shape: int) -> Tensor:
        """(b, *shape) standard normal."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.streams]).to(self.device)

    def rand(self, *shape: int) -> Tensor:
        """(b, *shape) uniform in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.streams]).to(self.device)

    def randn_like(self, x: Tensor) -> Tensor:
        """Noise of the shape of x, whose first axis is the batch."""
        if len(x) != len(self.ids):
            raise ValueError(f"batch of {len(x)} rows, but this Rng has {len(self.ids)} sample ids")
        return self.randn(*x.shape[1:])

    def shared(self, purpose: str) -> torch.Generator:
        """One stream for a draw that all samples and ranks must agree on."""
        return torch.Generator().manual_seed(seed_of(*self.key, "shared", purpose))
