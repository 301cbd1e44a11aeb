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
from fewstep.train.adam import Adam, MomentsName, WeightsName
from fewstep.train.first_move import FirstMove

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
    weights: WeightsName = "float32"
    """What trained weights are: float32; bfloat16 with the rest of a float32 beside them, whose
    updates are those of float32 (exact); or bfloat16 alone, rounded at random (stochastic). The
    model computes in what they are, and its gradients add up in it over micro-batches."""
    moments: MomentsName = "float32"
    """What the optimizer keeps of past gradients; 8bit is a quarter of it, and near it."""
    offload: bool = False
    """Whether moments, and the rest of exact weights, wait in main memory between updates: the
    last resort where they do not fit, for every update fetches and brings back all of them."""
    in_backward: bool = False
    """Each weight moves as soon as its gradient is there, so that no two gradients are kept:
    clipped by the norm of the step before. For one process and one micro-batch a step: a batch of
    1, or `data.alike`."""

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

    total  the number of updates of the whole run; only the cosine schedule looks at it
    seed   of what is rounded at random

    ValueError for parameters that are not kept as `cfg.weights` has it: steps of 1e-5 round away
    in bfloat16.
    """

    def __init__(self, cfg: OptimConfig, module: nn.Module, *, total: int, seed: int = 0) -> None:
        self.cfg, self.total = cfg, total
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError("an optimizer needs a trainable parameter, but all are frozen")
        for name, p in self.parameters.items():
            check_kept(name, p.dtype, cfg)
        self.adam = Adam(
            self.parameters, betas=cfg.betas, weight_decay=cfg.weight_decay, weights=cfg.weights,
            moments=cfg.moments, seed=seed, offload=cfg.offload,
        )  # fmt: skip
        self.updates = 0
        """Updates made, which is what the schedule counts."""
        self.first: FirstMove | None = None
        """From the first update of all until somebody has looked at what it did."""
        self.norm_before: float | None = None
        """Of the last step, where weights move in the backward pass."""

    def zero_grad(self) -> None:
        for p in self.parameters.values():
            p.grad = None

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
        if found and self.cfg.weights != "float32":  # bfloat16 would tell it to one part in 256
            norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in found]
            return torch.linalg.vector_norm(torch.stack(norms))
        return whole(nn.utils.get_total_norm(found))

    def step(self, norm: Tensor) -> None:
        """Clip gradients of this norm, and move."""
        shrink = None
        if self.cfg.clip is not None and self.cfg.weights != "float32":
            shrink = (self.cfg.clip / (norm + 1e-6)).clamp(max=1.0)  # as torch clips
        elif self.cfg.clip is not None:
            nn.utils.clip_grads_with_norm_(list(self.parameters.values()), self.cfg.clip, norm)
        for name in self.parameters if self.updates == 0 else ():
            self.note_first(name)
        self.adam.step(self.lr, shrink)
        self.updates += 1

    def note_first(self, name: str) -> None:
        self.first = self.first or FirstMove(self.parameters, self.adam.full)
        self.first.note(name)

    def step_of(self, name: str, norm: Tensor) -> None:
        """Move one parameter, whose gradient has this norm, in the backward pass."""
        shrink = None
        if self.updates == 0:
            self.note_first(name)
        if self.cfg.clip is not None:
            before = self.norm_before
            of = norm if before is None else torch.full_like(norm, before)
            shrink = (self.cfg.clip / (of + 1e-6)).clamp(max=1.0)
            shrink = torch.where(shrink.isfinite(), shrink, 0)
        self.adam.step(self.lr, shrink, [name])

    def has_moved(self, norm: Tensor) -> None:
        """All of them have, by gradients of this norm together."""
        if norm.device.type != "meta":
            found = float(norm)
            self.norm_before = found if math.isfinite(found) else self.norm_before
        self.updates += 1

    def first_move(self, name: str) -> str | None:
        """What the first update of all did, once, in a line; None before and after that."""
        if self.first is None:
            return None
        moved, self.first = self.first.after(), None
        return moved.told(name, self.cfg.rate(0, self.total), self.cfg.weights)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by "parameter/quantity" and, for JSON, everything else."""
        self.adam.settle()
        tensors = {
            f"{name}/{quantity}": value
            for name, kept in self.adam.state.items()
            for quantity, value in kept.items()
        }
        norm = {} if self.norm_before is None else {"norm_before": self.norm_before}
        return tensors, {"updates": self.updates} | norm

    def blank(self, key: str) -> Tensor:
        """Room for what `state` calls `key`, sharded where its parameter is; ValueError where there
        is no such parameter."""
        name, _, quantity = key.rpartition("/")
        if name not in self.parameters:
            raise ValueError(f"the optimizer state is for a parameter {name!r} that is not there")
        return self.adam.blank(name, quantity)

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up what `state` gave; ValueError if it belongs to other parameters, or to weights
        or moments that are kept otherwise."""
        found: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, quantity = key.rpartition("/")
            found.setdefault(name, {})[quantity] = value
        self.adam.load(found)
        self.updates, self.norm_before = int(facts["updates"]), facts.get("norm_before")


def check_kept(name: str, dtype: torch.dtype, cfg: OptimConfig) -> None:
    shown, weights = str(dtype).removeprefix("torch."), cfg.weights
    if weights == "float32" and dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"parameter {name!r} is {shown}, of which neighbours are up to "
            f"{torch.finfo(dtype).eps:.2%} of a weight apart: small steps would round away, such "
            f"as those of lr = {cfg.lr:g}; train a float32 copy of the weights, or keep them as "
            "exact or stochastic"
        )
    if weights != "float32" and dtype != torch.bfloat16:
        raise ValueError(
            f"parameter {name!r} is {shown}, and {weights} weights are bfloat16 ones; keep them as "
            "float32"
        )
