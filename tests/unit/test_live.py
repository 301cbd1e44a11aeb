"""Bytes of tensors: what lives, and the most there were, of real ones and of the meta device's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from fewstep.train.live import Live, nbytes

KB = 256
"""Numbers in a kilobyte."""


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storages_count_from_where_they_are_made_to_where_they_are_freed(device: str) -> None:
    before = torch.zeros(KB, device=device)
    with Live() as live:
        live.add([before, before.view(2, -1)])
        assert live.now == 1024
        a = torch.zeros(4 * KB, device=device)
        b = a + before.repeat(4)  # the repeated one is gone before the next line
        assert (live.now, live.peak) == (9 * 1024, 13 * 1024)
        view, _ = b[:KB], a.add_(1)  # neither is new
        del b
        assert live.now == 9 * 1024
        del view
        assert live.now == 5 * 1024
        live.restart()
        assert live.peak == 5 * 1024
    assert nbytes([before, before[:2], a]) == 5 * 1024


def chain(device: str, *, again: bool) -> int:
    """The most bytes of a forward and a backward pass through eight wide layers."""
    layers = [nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 64)) for _ in range(8)]
    layers = [layer.to(device) for layer in layers]
    with Live() as live:
        live.add(p for layer in layers for p in layer.parameters())
        x = torch.zeros(256, 64, device=device)
        for layer in layers:
            x = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        x.sum().backward()
    return live.peak


@pytest.mark.parametrize("again", [False, True])
def test_the_meta_device_takes_as_much_as_the_processor(again: bool) -> None:
    assert chain("meta", again=again) == pytest.approx(chain("cpu", again=again), rel=0.02)


def test_it_finds_what_the_allocator_of_torch_was_asked_for() -> None:
    layer = nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 64))
    x = torch.randn(4096, 64)
    with Live() as live:
        layer(x).square().sum().backward()
    layer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        layer(x).square().sum().backward()
    total = most = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    assert live.peak == pytest.approx(most, rel=0.05)
