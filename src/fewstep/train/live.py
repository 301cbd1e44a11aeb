"""Bytes of tensors that are alive, and the most there were: on any device, the meta device too."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Counts storages from where an operation makes them to where they are freed. What was there
    before is counted from `add` on.

    Not beside another such mode: where blocks are computed again and end by an exception, frames of
    two of them hold tensors that are free otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.elsewhere: set[int] = set()

    def add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self.storages and key not in self.elsewhere and size > 0:
                self.storages[key] = weakref.ref(storage, self.freed(key, size))
                self.now += size
                self.peak = max(self.peak, self.now)

    def freed(self, key: int, size: int) -> Callable[[object], None]:
        def free(_: object) -> None:
            del self.storages[key]
            self.now -= size

        return free

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """They lie elsewhere, and so do views of them; they must outlive the count."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.elsewhere.add(storage._cdata)
            if self.storages.pop(storage._cdata, None) is not None:
                self.now -= storage.nbytes()

    def restart(self) -> None:
        """The most from now on."""
        gc.collect()
        self.peak = self.now

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        found = func(*args, **(kwargs or {}))
        self.add(t for t in tree_leaves(found) if isinstance(t, Tensor))
        return found


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Of distinct storages."""
    found = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(found.values())
