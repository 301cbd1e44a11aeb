"""What a process holds of weights that are divided among several: a plan's stand-in for FSDP2.

Everything that trains, its averages, gradients and moments are cut into as many parts as there are
processes (`nets.shard`). Nothing is divided here: the meta device has the whole, of which all but a
part is taken off the scale, and what FSDP2 has gathered for a while is put on it:

    a block's weights, twice      gathered, and the next ones in the buffer they come in
    a block's gradients, twice    as the pass leaves them, and in the buffer they are summed in
    all weights                   from a forward to its backward, in mode optimizer
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from fewstep.nets.shard import ShardingConfig, blocks
from fewstep.train.live import Live, nbytes
from fewstep.train.optim import Optim


class Divided:
    """The scale of a process among `processes`; for one, or where nothing is divided, it changes
    nothing.

    trained  modules that train
    frozen   models, of which the blocks are divided where the config says so
    """

    def __init__(
        self, cfg: ShardingConfig, processes: int, trained: Iterable[nn.Module],
        frozen: Iterable[nn.Module],
    ) -> None:  # fmt: skip
        self.among = processes if cfg.on else 1
        self.trained, self.whole_in_step = list(trained), cfg.mode == "optimizer"
        self.frozen = [b for m in frozen for b in blocks(m)] if cfg.teacher == "sharded" else []
        self.held: list[Tensor] = []
        """Parts, kept alive so that they weigh."""

    def part(self, size: int) -> int:
        return -(-size // self.among)

    def parts(self, live: Live, tensors: Iterable[Tensor]) -> None:
        """Put a part of each on the scale."""
        sizes = [self.part(nbytes([tensor])) for tensor in tensors]
        new = [torch.empty(size, dtype=torch.uint8, device="meta") for size in sizes]
        live.add(new)
        self.held += new

    def cut(self, live: Live, tensors: Iterable[Tensor]) -> None:
        """Weigh a part of each instead of the whole."""
        if self.among > 1:
            found = list(tensors)
            live.forget(found)
            self.parts(live, found)

    def weights(self, live: Live) -> None:
        """Those that train, and blocks of divided teachers. In mode optimizer whole ones stay
        beside their parts, for they are there where a step takes most."""
        if self.among > 1:
            own = [p for module in self.trained for p in module.parameters()]
            self.parts(live, own)
            if not self.whole_in_step:
                live.forget(own)
            self.cut(live, (p for block in self.frozen for p in block.parameters()))

    def gathered(self) -> int:
        """Bytes that come and go with the blocks in a pass."""
        if self.among == 1:
            return 0
        own = [nbytes(b.parameters()) for module in self.trained for b in blocks(module)]
        teachers = [nbytes(b.parameters()) for b in self.frozen]
        gradients = weights = max(own, default=0)
        if self.whole_in_step:
            weights = 0
        return 2 * (gradients + max(weights, max(teachers, default=0)))

    @contextmanager
    def scattered(self, live: Live, optim: Optim) -> Iterator[None]:
        """In the block a gradient becomes a part of it as soon as it is there."""
        if self.among == 1:
            yield
            return
        kept: dict[str, Tensor] = {}

        def scatter(name: str, p: nn.Parameter) -> None:
            assert p.grad is not None
            if name not in kept:
                size = self.part(nbytes([p.grad]))
                kept[name] = torch.empty(size, dtype=torch.uint8, device="meta")
                live.add([kept[name]])
            p.grad = None

        handles = [
            p.register_post_accumulate_grad_hook(partial(scatter, name))
            for name, p in optim.parameters.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def update(self, optim: Optim, before: int, most: int, gradients: int) -> int:
        """The most bytes while parts move, where moving the whole took `most`, and `before` were
        there with all gradients. What other phases have gathered is still there."""
        if self.among == 1:
            return most
        whole = nbytes(optim.parameters.values()) * self.whole_in_step
        return before - whole - gradients + self.part(gradients) + self.part(most - before)


def held_by_one(sizes: dict[str, int], divided: Divided) -> dict[str, int]:
    """The bytes that stay, by what they are, of one process."""
    found = {name: divided.part(size) for name, size in sizes.items()}
    cut = nbytes(p for block in divided.frozen for p in block.parameters())
    found["frozen models"] = sizes["frozen models"] - cut + divided.part(cut)
    return found
