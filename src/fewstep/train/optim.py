"""One optimizer and one learning-rate schedule for each phase, counting that phase's own steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn

from fewstep.methods.base import Method
from fewstep.nets.shard import whole

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW. Every count is in optimizer steps of the phase, not in steps of the loop."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.99)
    """A first beta of 0 suits adversarial games: the opponent has moved since."""
    weight_decay: float = 0.0
    clip: float | None = 1.0
    """Largest gradient norm; longer gradients are scaled down to it. None does not clip."""
    warmup: int = 0
    """Updates over which the learning rate rises linearly to `lr`."""
    schedule: Schedule = "constant"
    """After the warm-up: the same rate, or half a cosine that reaches 0 when the phase's updates
    are done."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be a finite number > 0, got {self.lr}")
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be > 0, or none to switch it off, got {self.clip}")
        if self.warmup < 0:
            raise ValueError(f"warmup must be >= 0, got {self.warmup}")

    def rate(self, update: int, total: int) -> float:
        """Learning rate of update 0, 1, ... out of `total`."""
        if update < self.warmup:
            return self.lr * (update + 1) / self.warmup
        match self.schedule:
            case "constant":
                return self.lr
            case "cosine":
                done = (update - self.warmup) / max(1, total - self.warmup)
                return self.lr * (1 + math.cos(math.pi * min(1.0, done))) / 2
            case _:
                assert_never(self.schedule)


def updates_per_phase(method: Method, steps: int) -> Counter[str]:
    """How many optimizer steps each phase makes in `steps` steps of the loop."""
    return Counter(phase.name for step in range(steps) for phase in method.phases(step))


class Optim:
    """AdamW on the trainable parameters of one module, by name.

    `total` is the number of updates of the whole run; only the cosine schedule looks at it.
    ValueError for parameters in less than float32: steps of 1e-5 round away in bfloat16.
    """

    def __init__(self, cfg: OptimConfig, module: nn.Module, *, total: int) -> None:
        self.cfg, self.total = cfg, total
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("an optimizer needs a trainable parameter, but all are frozen")
        for name, p in self.parameters.items():
            if p.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"parameter {name!r} is {str(p.dtype).removeprefix('torch.')}: small steps "
                    "would round away; train a float32 copy of the weights"
                )
        self.adam = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=cfg.lr,
            betas=cfg.betas,
            weight_decay=cfg.weight_decay,
        )
        self.updates = 0
        """Updates made, which is what the schedule counts."""

    def zero_grad(self) -> None:
        self.adam.zero_grad(set_to_none=True)

    def train(self, on: bool) -> None:
        """Whether the parameters need a gradient at all."""
        for p in self.parameters.values():
            p.requires_grad_(on)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self.cfg.rate(self.updates, self.total)

    def norm(self) -> Tensor:
        """Norm of all gradients together, a parameter that got none counting 0; of sharded ones the
        norm of the whole, which all processes ask for at once."""
        found = [p.grad for p in self.parameters.values() if p.grad is not None]
        return whole(nn.utils.get_total_norm(found))

    def step(self, norm: Tensor) -> None:
        """Clip gradients of this norm, and move."""
        if self.cfg.clip is not None:
            nn.utils.clip_grads_with_norm_(list(self.parameters.values()), self.cfg.clip, norm)
        for group in self.adam.param_groups:
            group["lr"] = self.lr
        self.adam.step()
        self.updates += 1

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by "parameter/quantity" and, for JSON, everything else."""
        tensors = {
            f"{name}/{quantity}": value
            for name, p in self.parameters.items()
            for quantity, value in self.adam.state.get(p, {}).items()
        }
        return tensors, {"updates": self.updates}

    def blank(self, key: str) -> Tensor:
        """Room for what `state` calls `key`, sharded where its parameter is; ValueError where there
        is no such parameter."""
        name, _, quantity = key.rpartition("/")
        if name not in self.parameters:
            raise ValueError(f"the optimizer state is for a parameter {name!r} that is not there")
        # AdamW counts its steps on the CPU, in a tensor of its own for each parameter.
        return torch.zeros(()) if quantity == "step" else torch.zeros_like(self.parameters[name])

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up what `state` gave; ValueError if it belongs to other parameters."""
        found: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, quantity = key.rpartition("/")
            found.setdefault(name, {})[quantity] = value
        for name, entries in found.items():
            if name not in self.parameters:
                raise ValueError(
                    f"the optimizer state is for a parameter {name!r} that is not there"
                )
            p = self.parameters[name]
            if any(v.ndim and v.shape != p.shape for v in entries.values()):
                raise ValueError(f"the optimizer state of {name!r} has another shape than it")
        self.updates = int(facts["updates"])
        # A parameter that never got a gradient (a padding token, say) has no state.
        self.adam.state.clear()
        for name, entries in found.items():
            p = self.parameters[name]
            self.adam.state[p] = {
                q: v.clone() if q == "step" else v.to(p.device, p.dtype, copy=True)
                for q, v in entries.items()
            }
