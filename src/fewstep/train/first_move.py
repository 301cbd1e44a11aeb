"""What the first update of an optimizer does: which share of the weights with a gradient it moves.

A rate below the distance of a weight from its neighbour moves nothing, and neither does a gradient
that never arrives; both look like a run that learns slowly. AdamW's first update is as long as the
rate for every weight whose gradient is not zero, so all of these should move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fewstep.nets.shard import held
from fewstep.train.adam import WeightsName

Cut = Callable[[Tensor], Tensor]
Full = Callable[[str, Cut], Tensor]
SAMPLED = 1024
"""Numbers of a parameter that are looked at."""
FEW = 0.5
"""Share of moved weights below which there is a warning."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Of the weights that this process holds, by a sample of each parameter."""

    weights: int
    reached: float
    """How many got a gradient that is not zero."""
    moved: float
    """How many of these are another number than before."""

    @property
    def share(self) -> float:
        return self.moved / self.reached if self.reached else 0.0

    def told(self, name: str, lr: float, weights: WeightsName) -> str:
        """In a line, which is a warning where there is something to repair."""
        if not self.reached:
            return (
                f"warning: in its first update no weight of {name} had a gradient other than zero"
            )
        said = (
            f"the first update of {name} moved {self.share:.1%} of the weights with a gradient "
            f"({self.reached / self.weights:.1%} of {self.weights / 1e6:,.1f}M)"
        )
        if self.share >= FEW or weights == "stochastic":
            return said
        return (
            f"warning: {said}: at its rate of {lr:g} the others are rounded to what they were; "
            f"raise optim.{name}.lr"
        )


class FirstMove:
    """The weights before the update, as far as they have been noted.

    full  a parameter's numbers, as `cut` leaves them, with all that is kept of them
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], full: Full) -> None:
        self.parameters, self.full = parameters, full
        self.before: dict[str, Tensor] = {}
        self.reached: dict[str, Tensor] = {}

    def note(self, name: str) -> None:
        """This one is about to move, by the gradient that it has."""
        gradient = self.parameters[name].grad
        if gradient is not None:
            self.before[name] = self.look(name).clone()
            self.reached[name] = self.cut(gradient) != 0

    def look(self, name: str) -> Tensor:
        return self.full(name, self.cut)

    def cut(self, tensor: Tensor) -> Tensor:
        """Some of the numbers that this process holds, at equal distances."""
        flat = held(tensor)[0].flatten()
        return flat[:: max(1, len(flat) // SAMPLED)]

    def after(self) -> Moved:
        """Waits for the device."""
        sizes = {name: held(p)[0].numel() for name, p in self.parameters.items()}
        reached = moved = 0.0
        for name, mask in self.reached.items():
            if not len(mask):
                continue
            weight = sizes[name] / len(mask)
            reached += weight * int(mask.sum())
            moved += weight * int((mask & (self.look(name) != self.before[name])).sum())
        return Moved(weights=sum(sizes.values()), reached=reached, moved=moved)
