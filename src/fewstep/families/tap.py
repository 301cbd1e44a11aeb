"""Outputs of some blocks of a model, by a forward pass that is left after the deepest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


class _Deepest(Exception):
    """Raised by the hook on the deepest tapped block: nothing after it is needed."""


@contextmanager
def tap(blocks: nn.ModuleList, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Record block outputs and leave the forward pass after the deepest one.

    Under activation checkpointing the recomputation in backward() may run the hooks again:
    a block that is recorded already is left alone, so gradients are those of one plain pass.
    """
    seen: dict[int, Tensor] = {}
    deepest = max(layers)

    def recorder(i: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, out: Tensor) -> None:
            if i in seen:
                return
            seen[i] = out
            if i == deepest:
                raise _Deepest

        return hook

    handles = [blocks[i].register_forward_hook(recorder(i)) for i in set(layers)]
    try:
        yield seen
    except _Deepest:
        pass
    finally:
        for handle in handles:
            handle.remove()
