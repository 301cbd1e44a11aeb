"""Exponential moving average of a module's weights, in float32 whatever the module trains in."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema(nn.Module):
    """A shadow of `module`:  shadow <- d shadow + (1 - d) weights,  once for each `update`.

    Trained parameters are shadowed in float32: in bfloat16 a step of 1 - d = 0.001 rounds away and
    the average never moves. Frozen parameters (under an adapter, say) cannot move either, so they
    are the module's own and cost no memory. Buffers are copied at every update.

    decay   d in [0, 1); 0 makes the shadow a plain float32 copy.
    warmup  d = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, 2, ...: the average forgets its
            starting weights within tens of updates instead of 1 / (1 - decay).

    The shadow starts from the current weights. Its state dict holds it and the update counter, so
    that a resumed run continues the same average.
    """

    updates: Tensor

    def __init__(self, module: nn.Module, *, decay: float, warmup: bool = False) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        trained = [p for p in module.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("Ema needs a module with a trainable parameter, but all are frozen")
        memo: dict[int, object] = {id(p): p for p in module.parameters() if not p.requires_grad}
        for p in trained:
            copied = p.detach().to(torch.float32, copy=True)
            memo[id(p)] = nn.Parameter(copied, requires_grad=False)
        self.module = copy.deepcopy(module, memo).eval()
        self.decay = decay
        self.warmup = warmup
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def next_decay(self) -> float:
        """The d of the next update."""
        t = int(self.updates)
        return min(self.decay, (1 + t) / (10 + t)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the shadow towards the weights of `module`, which has the shadow's structure."""
        weight = 1 - self.next_decay()
        live = dict(module.named_parameters())
        shadow = dict(self.module.named_parameters())
        if live.keys() != shadow.keys():
            odd = sorted(live.keys() ^ shadow.keys())[0]
            raise ValueError(f"the EMA shadows another structure: parameter {odd!r} is in one only")
        for name, parameter in live.items():
            if parameter is not shadow[name]:
                shadow[name].lerp_(parameter.to(torch.float32), weight)
            elif parameter.requires_grad:
                raise ValueError(f"{name!r} was frozen when its EMA was built; unfreeze it before")
        buffers = dict(module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.copy_(buffers[name])
        self.updates += 1
