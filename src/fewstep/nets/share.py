"""`share`: frozen roles are structure, not mode."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def share(module: M) -> M:
    """A second module tree over the same parameters and buffers, at no memory for weights.

    The trees differ in structure and not in weights: adapters put into one, train/eval mode and
    hooks registered later leave the other as it was. What lives on a tensor is common to both:
    its values, its `.grad` and its `requires_grad`. Freezing the parameters of one tree therefore
    freezes them in the other as well, which is what teacher = share(base) and
    student = adapt(share(base)) want: only the adapters train.

    Take the second tree before adapters or hooks are attached: what is attached already is copied.
    `.to(dtype)` replaces values in place and so reaches both trees; move or cast before sharing.
    """
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
