"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on weights and moments in few bytes.

torch's own function computes every update, in float32. What is kept in fewer bytes is unpacked
before it and packed after it, one parameter at a time, so that of no more than one there is a copy.

    bytes of a weight    float32 4     exact 2 + 2 (`train.halves`)    stochastic 2
    of a moment          float32 4     8bit 1 + 1/64 (`train.eight_bits`)

Offloaded, all but the weights waits in main memory and comes to them for its update.
A first moment of decay 0 is the gradient itself, and is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from fewstep.rng import seed_of
from fewstep.train.eight_bits import BLOCK, from_eight_bits, to_eight_bits
from fewstep.train.halves import joined, rounded_at_random, split

WeightsName = Literal["float32", "exact", "stochastic"]
MomentsName = Literal["float32", "8bit"]

FIRST, SECOND = "exp_avg", "exp_avg_sq"
CODES, SCALES, LOW, STEP = "codes", "scales", "low", "step"
EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class View:
    """One parameter as the update sees it: float32, and the tensors themselves where they are."""

    weight: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    step: Tensor


class Adam:
    """The moments of named parameters, and what is kept of their weights beside them.

    weights  float32 parameters train as they are; bfloat16 ones "exact", as the upper halves of
             float32 weights, or "stochastic", each update rounded at random
    offload  whether what is kept waits in main memory between updates
    seed     of that rounding; the draws of an update depend on nothing else but its number and the
             parameter's name
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], *, betas: tuple[float, float],
        weight_decay: float, weights: WeightsName, moments: MomentsName, seed: int,
        offload: bool = False,
    ) -> None:  # fmt: skip
        self.parameters, self.betas, self.weight_decay = parameters, betas, weight_decay
        self.weights, self.moments, self.seed = weights, moments, seed
        self.offload = offload
        self.state: dict[str, dict[str, Tensor]] = {}
        """By parameter, then by what is kept; empty before its first gradient."""

    @torch.no_grad()
    def step(
        self, lr: float, shrink: Tensor | None = None, among: Collection[str] | None = None
    ) -> None:
        """Move by the gradients that are there, first multiplied by `shrink`; of all parameters, or
        of some."""
        among = self.parameters.keys() if among is None else among
        names = [name for name in among if self.parameters[name].grad is not None]
        packed = self.weights != "float32" or self.moments != "float32" or self.offload
        for group in [[name] for name in names] if packed else [names]:
            views = [self.view(name, shrink) for name in group]
            adamw(
                [v.weight for v in views], [v.gradient for v in views],
                [v.first for v in views], [v.second for v in views], [],
                [v.step for v in views], amsgrad=False, beta1=self.betas[0],
                beta2=self.betas[1], lr=lr, weight_decay=self.weight_decay, eps=EPS,
                maximize=False,
            )  # fmt: skip
            for name, view in zip(group, views, strict=True):
                self.keep(name, view)

    def view(self, name: str, shrink: Tensor | None) -> View:
        """Unpacked."""
        p, state = self.parameters[name], self.state.setdefault(name, {})
        assert p.grad is not None
        gradient = p.grad.to(wide(p))
        match self.weights:
            case "float32":
                weight = p
            case "exact":
                weight = joined(p, self.kept(name, LOW)) if LOW in state else p.float()
            case "stochastic":
                weight = p.float()
        if STEP not in state:
            state[STEP] = torch.zeros(())  # on the CPU, as torch's AdamW has it
        return View(
            weight=weight, gradient=gradient if shrink is None else gradient * shrink,
            first=self.moment(name, FIRST), second=self.moment(name, SECOND), step=state[STEP],
        )  # fmt: skip

    def full(self, name: str, cut: Callable[[Tensor], Tensor]) -> Tensor:
        """The numbers of a parameter that `cut` leaves, with what is kept beside them."""
        low = self.state.get(name, {}).get(LOW)
        high = cut(self.parameters[name])
        return high if low is None else joined(high, cut(low).to(high.device))

    def moment(self, name: str, which: str) -> Tensor:
        p, state = self.parameters[name], self.state[name]
        if which in state:
            return self.kept(name, which)
        if f"{which}_{CODES}" in state:
            codes, scales = (self.kept(name, f"{which}_{part}") for part in (CODES, SCALES))
            return from_eight_bits(codes, scales, signed=which == FIRST)
        return torch.zeros_like(p, dtype=wide(p))

    def keep(self, name: str, view: View) -> None:
        """Packed again."""
        p = self.parameters[name]
        match self.weights:
            case "float32":
                pass
            case "exact":
                high, low = split(view.weight)
                p.copy_(high)
                self.rest(name, LOW, low)
            case "stochastic":
                draws = torch.Generator(p.device if p.is_cuda else "cpu")
                draws.manual_seed(seed_of("rounding", self.seed, name, int(view.step)))
                p.copy_(rounded_at_random(view.weight, draws))
        for which, value in ((FIRST, view.first), (SECOND, view.second)):
            if which == FIRST and self.betas[0] == 0:
                continue
            if self.moments == "float32":
                self.rest(name, which, value)
            else:
                codes, scales = to_eight_bits(value, signed=which == FIRST)
                self.rest(name, f"{which}_{CODES}", codes)
                self.rest(name, f"{which}_{SCALES}", scales)

    def kept(self, name: str, quantity: str) -> Tensor:
        """What rested, where its parameter is."""
        found = self.state[name][quantity]
        if not self.offload:
            return found
        return found.to(self.parameters[name].device, non_blocking=True, copy=True)

    def rest(self, name: str, quantity: str, value: Tensor) -> None:
        """Until the next update."""
        state = self.state[name]
        if not self.offload:
            state[quantity] = value
        elif value.is_meta:  # a plan: nothing waits anywhere
            state.setdefault(quantity, value)
        else:
            room = state.setdefault(quantity, main_memory(value))
            room.copy_(value, non_blocking=True)

    def settle(self) -> None:
        """Wait until what rests has arrived, before anybody but an update reads it."""
        if self.offload and any(p.is_cuda for p in self.parameters.values()):
            torch.cuda.synchronize()

    def blank(self, name: str, quantity: str) -> Tensor:
        """Room for a quantity that is kept of a parameter."""
        p = self.parameters[name]
        match quantity.removeprefix(f"{SECOND}_").removeprefix(f"{FIRST}_"):
            case "step":
                return torch.zeros(())
            case "low":
                room = torch.zeros_like(p, dtype=torch.int16)
            case "codes":
                room = torch.zeros_like(p, dtype=torch.uint8)
            case "scales":
                room = torch.zeros(-(-p.numel() // BLOCK), device=p.device)
            case _:
                room = torch.zeros_like(p, dtype=wide(p))
        return main_memory(room) if self.offload else room

    def load(self, found: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take up a copy of what `state` was; ValueError where it is of other parameters, or was
        kept otherwise. A parameter that never got a gradient (a padding token, say) has none."""
        state: dict[str, dict[str, Tensor]] = {}
        for name, kept in found.items():
            if name not in self.parameters:
                raise ValueError(
                    f"the optimizer state is for a parameter {name!r} that is not there"
                )
            wanted = self.quantities()
            if not wanted <= kept.keys():
                raise ValueError(
                    f"the optimizer state of {name!r} holds {', '.join(sorted(kept))}, but weights "
                    f"{self.weights} with moments {self.moments} need {', '.join(sorted(wanted))}"
                )
            state[name] = {q: self.blank(name, q) for q in sorted(wanted)}
            for quantity, room in state[name].items():
                if kept[quantity].shape != room.shape:
                    raise ValueError(f"the optimizer state of {name!r} has another shape than it")
                room.copy_(kept[quantity])
        self.state = state

    def quantities(self) -> set[str]:
        """What is kept of a parameter that has moved."""
        moments = (FIRST, SECOND) if self.betas[0] > 0 else (SECOND,)
        parts = (CODES, SCALES) if self.moments == "8bit" else ()
        kept = {f"{m}_{part}" for m in moments for part in parts} or set(moments)
        return kept | {STEP} | ({LOW} if self.weights == "exact" else set())


def main_memory(like: Tensor) -> Tensor:
    """Room for it there, from where a GPU fetches without a detour."""
    return torch.zeros_like(like, device="cpu", pin_memory=like.is_cuda)


def wide(parameter: nn.Parameter) -> torch.dtype:
    """What its update is computed in."""
    return torch.promote_types(parameter.dtype, torch.float32)
