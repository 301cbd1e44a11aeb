"""Several processes on one step: which one this is, and what all of them find out together.

torchrun starts them and tells each its place. All hold the same weights; each takes its share of a
step's micro-batches, and gradients are summed before anybody moves, so that a step is that of one
process but for the order of a sum. What decides about the run (a stop, a skipped step) is decided
by all together, between steps. The first process alone writes into the run; it comes first
wherever samples are drawn, so that the others find them.

With sharded weights (`nets.shard`) each holds a part, and gradients arrive summed and sharded. A
forward is then something that all do together, so all have as many micro-batches, and all draw
the pictures that the first writes.

Nothing is sent as a pickle: tensors, and JSON as bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from fewstep.errors import UserError
from fewstep.runs import RunError

T = TypeVar("T")
PATIENCE = timedelta(days=2)
"""How long a process waits for another: the first may draw samples for hours. Of one that has died
torchrun tells the others."""


@dataclass(frozen=True)
class Ranks:
    """This process among `count`."""

    rank: int = 0
    count: int = 1
    sharded: bool = False
    """Whether each holds a part of what trains. One process may do so too, holding all parts."""
    store: dist.Store | None = None
    """By which several processes have found each other."""

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """Those that are this process's to do."""
        return parts[self.rank :: self.count]

    def padding(self, parts: Sequence[T]) -> Sequence[T]:
        """What this process does besides, for nothing, where weights are sharded and others have
        one more to do; never one of its own."""
        mine = len(self.share(parts))
        if not self.sharded or mine == -(-len(parts) // self.count):
            return ()
        return (parts[(self.rank + mine * self.count) % len(parts)],)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def total_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Every gradient becomes the sum over all processes; one that nobody has stays None."""
        if self.count == 1:
            return
        device = parameters[0].device
        there = self.total(torch.tensor([float(p.grad is not None) for p in parameters]).to(device))
        moved = [p for p, n in zip(parameters, there.tolist(), strict=True) if n > 0]
        for p in moved:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)

    def any(self, asked: bool) -> bool:
        """Whether it is asked anywhere."""
        return asked if self.count == 1 else bool(self.all_facts(asked).count(True))

    def all_facts(self, own: Any) -> list[Any]:
        """What each process says, as JSON, in the order of ranks."""
        if self.count == 1:
            return [own]
        device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
        said = torch.frombuffer(bytearray(json.dumps(own).encode()), dtype=torch.uint8).to(device)
        sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([len(said)], device=device))
        longest = max(int(size) for size in sizes)
        padded = torch.cat([said, said.new_zeros(longest - len(said))])
        heard = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(heard, padded)
        return [
            json.loads(bytes(one[: int(size)].tolist()))
            for one, size in zip(heard, sizes, strict=True)
        ]

    def agree(self, what: str, own: Any) -> None:
        """RunError where the processes do not say the same of something."""
        said = self.all_facts(own)
        if odd := [rank for rank, other in enumerate(said) if other != said[0]]:
            raise RunError(
                f"process {odd[0]} of {self.count} has another {what} than the first; all must be "
                "started by the same command, on the same files"
            )

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Ranks()


def broke_off(error: BaseException) -> bool:
    """Whether a collective operation has failed, which it does when another process is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def take_gpu() -> None:
    """Of the processes that torchrun has started on this machine each takes the GPU of its local
    rank; nothing without torchrun. UserError where there is none left."""
    if "LOCAL_RANK" not in os.environ:
        return
    local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= there:
        raise UserError(
            f"process {local} of this machine finds {there} GPUs; start no more processes than "
            "that (torchrun --nproc-per-node)"
        )
    torch.cuda.set_device(local)


@contextmanager
def started(device: str, *, sharded: bool = False) -> Iterator[Ranks]:
    """The processes that torchrun has started, connected; `ALONE` without it, unless weights are to
    be sharded: that needs a group, if only of one.

    On GPUs each process takes the one of its local rank. UserError where there is none left, or
    where torchrun's variables are there in part.
    """
    on_gpus = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    backend = "nccl" if on_gpus else "gloo"
    if "WORLD_SIZE" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        if not sharded:
            yield ALONE
            return
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        try:
            yield Ranks(sharded=True)
        finally:
            dist.destroy_process_group()
        return
    if missing := [n for n in ("RANK", "LOCAL_RANK", "MASTER_ADDR") if n not in os.environ]:
        raise UserError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}; start several processes by torchrun"
        )
    if on_gpus:
        take_gpu()
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    store.set_timeout(PATIENCE)
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=count,
        timeout=PATIENCE,
    )  # fmt: skip
    try:
        yield Ranks(rank, count, sharded, dist.PrefixStore("fewstep", store))
    finally:
        dist.destroy_process_group()
