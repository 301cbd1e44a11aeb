"""`share`: two structures, one set of weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.testing import assert_close

from fewstep.nets.share import share


def base() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_every_parameter_and_buffer_is_the_same_object() -> None:
    a = base()
    b = share(a)
    assert b is not a and b[0] is not a[0]
    for (name, x), (other, y) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert name == other and x is y
    for x, y in zip(a.buffers(), b.buffers(), strict=True):
        assert x is y


def test_structure_and_mode_are_separate() -> None:
    a = base().eval()
    b = share(a)
    before = a(torch.ones(2, 3))
    b[2] = nn.Identity()
    b.train()
    b[0].register_forward_hook(lambda *_: torch.zeros(2, 4))
    assert_close(a(torch.ones(2, 3)), before, rtol=0, atol=0)
    assert not a.training and not a[0].training


def test_values_and_requires_grad_are_common() -> None:
    a = base()
    b = share(a)
    with torch.no_grad():
        a.get_parameter("0.weight").fill_(7)
    assert (b.get_parameter("0.weight") == 7).all()
    b.requires_grad_(False)
    assert not any(p.requires_grad for p in a.parameters())


def test_tied_weights_stay_tied() -> None:
    a = nn.ModuleDict({"x": nn.Linear(2, 2), "y": nn.Linear(2, 2)})
    a["y"].weight = a["x"].weight
    b = share(a)
    assert b["y"].weight is b["x"].weight is a["x"].weight
