"""Exponential moving average of a module's weights, in float32 whatever the module trains in."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

SMALLEST = torch.finfo(torch.float32).eps
"""The least 1 - d: with less, the shadow would not move though its weights doubled."""


class Ema(nn.Module):
    """A shadow of `module`:  shadow <- d shadow + (1 - d) weights,  once for each `update`.

    Trained parameters are shadowed in float32: in bfloat16 a step of 1 - d = 0.001 rounds away and
    the average never moves. Frozen parameters (under an adapter, say) cannot move either, so they
    are the module's own and cost no memory. Buffers are copied at every update.

    decay   d in [0, 1); 0 is the weights themselves, of which no copy is made.
    warmup  d = min(decay, (1 + t) / (1 + pace + t)) at update t = 0, 1, 2, ...: with the usual pace
            of 9 the average forgets its starting weights within tens of updates instead of
            1 / (1 - decay).
    pace    of the warm-up, above 0.

    The share of the way that it has come after n updates,

                             without warm-up                  with, until it reaches decay
        of a straight way    1 - d (1 - d^n) / (n (1 - d))    pace / (1 + pace), whatever n
        of one first jump    1 - d^n                          1 - n! G(1 + pace) / G(n + 1 + pace)

    G being the gamma function. The warm-up reaches decay after about pace / (1 - decay) updates.

    The shadow starts from the current weights. Its state dict holds it and the update counter, so
    that a resumed run continues the same average.
    """

    updates: Tensor

    def __init__(
        self, module: nn.Module, *, decay: float, warmup: bool = False, pace: float = 9.0
    ) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if 1 - decay < SMALLEST:
            raise ValueError(
                f"decay = {decay} leaves steps of {1 - decay:.1g}, which round away in float32; "
                "lower it, or take the weights as they are at the start"
            )
        if not pace > 0:
            raise ValueError(f"pace must be > 0, got {pace}")
        trained = [p for p in module.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("Ema needs a module with a trainable parameter, but all are frozen")
        self.decay = decay
        self.warmup = warmup
        self.pace = pace
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.live = (module,)
        """In a tuple, for it is no part of this one."""
        self.module = self.shadow_of(module) if decay > 0 else None

    @property
    def average(self) -> nn.Module:
        """What is sampled from: a module with the shadow's weights, or `module` itself."""
        return self.live[0] if self.module is None else self.module

    @staticmethod
    def shadow_of(module: nn.Module) -> nn.Module:
        trained = [p for p in module.parameters() if p.requires_grad]
        memo: dict[int, object] = {id(p): p for p in module.parameters() if not p.requires_grad}
        for p in trained:
            copied = p.detach().to(torch.float32, copy=True)
            memo[id(p)] = nn.Parameter(copied, requires_grad=False)
        return copy.deepcopy(module, memo).eval()

    def next_decay(self) -> float:
        """The d of the next update."""
        t = int(self.updates)
        return min(self.decay, (1 + t) / (1 + self.pace + t)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the shadow towards the weights of `module`, which has the shadow's structure."""
        if self.module is None:
            self.updates += 1
            return
        weight = 1 - self.next_decay()
        live = dict(module.named_parameters())
        shadow = dict(self.module.named_parameters())
        if live.keys() != shadow.keys():
            odd = sorted(live.keys() ^ shadow.keys())[0]
            raise ValueError(f"the EMA shadows another structure: parameter {odd!r} is in one only")
        for name, parameter in live.items():
            if parameter is not shadow[name]:
                if shadow[name].dtype != torch.float32:
                    kind = str(shadow[name].dtype).removeprefix("torch.")
                    raise ValueError(
                        f"the EMA of {name!r} is {kind}, in which it would stand still: move the "
                        "module before its EMA is built"
                    )
                shadow[name].lerp_(parameter.to(torch.float32), weight)
            elif parameter.requires_grad:
                raise ValueError(f"{name!r} was frozen when its EMA was built; unfreeze it before")
        buffers = dict(module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.copy_(buffers[name])
        self.updates += 1


def following(module: nn.Module, *, decay: float, share: float) -> Ema:
    """An average that has come `share` of a straight way however many updates there were, until it
    is as slow as `decay`; 0 is that from the start. ValueError unless it lies in [0, 1)."""
    if not 0 <= share < 1:
        raise ValueError(f"share must lie in [0, 1), got {share}")
    if share == 0:
        return Ema(module, decay=decay)
    return Ema(module, decay=decay, warmup=True, pace=share / (1 - share))
