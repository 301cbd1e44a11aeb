"""How far training has moved weights from where they began."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fewstep.nets.adapters import Adapted


@torch.no_grad()
def distances(student: nn.Module, average: nn.Module, start: nn.Module) -> tuple[float, float]:
    """(|W - W0| / |W0|, |W - A| / |W - W0|): of the student's weights W, those of its average A and
    those before training W0, over what trains.

    Of adapters, W is the weight of each adapted layer with the last adapter and W0 the one without.
    NaN for the second where nothing has moved. ValueError where the student is neither made as
    `start` is nor adapters over it.
    """
    whole, way, lag = 0.0, 0.0, 0.0
    for own, other, before in weights(student, average, start):
        whole += square(before)
        way += square(own - before)
        lag += square(own - other)
    return math.sqrt(way / whole), math.sqrt(lag / way) if way > 0 else math.nan


def weights(
    student: nn.Module, average: nn.Module, start: nn.Module
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(W, A, W0) of each weight that trains, one after the other."""
    layers = {n: m for n, m in student.named_modules() if isinstance(m, Adapted)}
    last = max((layer.level for layer in layers.values()), default=None)
    for name, layer in layers.items():
        if layer.level == last:
            other = average.get_submodule(name)
            assert isinstance(other, Adapted)  # an average has the structure of what it averages
            yield layer.exact_weight(), other.exact_weight(), before(layer)
    if layers:
        return
    first, averaged = dict(start.named_parameters()), dict(average.named_parameters())
    for name, own in student.named_parameters():
        if name not in first:
            raise ValueError(f"{name!r} of the student is not in the model that it began as")
        if own.requires_grad:
            yield own.float(), averaged[name].float(), first[name].float()


def before(layer: Adapted) -> Tensor:
    """The weight under the last adapter."""
    return layer.base.exact_weight() if isinstance(layer.base, Adapted) else layer.base.weight


def square(x: Tensor) -> float:
    return float(x.float().square().sum())
