"""Frozen weights are what they were when training began: a checksum of them, taken now and then.

An optimizer that holds a teacher's parameter, code that writes in place, or broken memory change a
teacher without a word, and the losses go on falling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from fewstep.nets.shard import held
from fewstep.runs import RunError
from fewstep.train.checkpoint import frozen_of
from fewstep.train.ranks import ALONE, Ranks


class Frozen:
    """The frozen parameters of a run, and their checksums at its start.

    modules  those of a method (`Method.modules`): what is frozen in one of which others train
    models   of which every parameter is frozen: teachers and bases. ValueError where one is not
    """

    def __init__(self, modules: Mapping[str, nn.Module], models: Sequence[nn.Module]) -> None:
        still = frozen_of(modules)
        own = (
            (f"{key}.{name}", p)
            for key, module in modules.items()
            for name, p in module.named_parameters()
            if id(p) in still
        )
        self.parameters: dict[int, tuple[str, nn.Parameter]] = {}
        for name, p in chain(of_models(models), own):
            self.parameters.setdefault(id(p), (name, p))
        self.before = self.sums()

    def sums(self) -> Tensor:
        """One for each parameter: the sum of its bits as integers, which no single change leaves
        as it was."""
        found = [bits(p).sum(dtype=torch.int64).cpu() for _, p in self.parameters.values()]
        return torch.stack(found) if found else torch.zeros(0, dtype=torch.int64)

    def fault(self) -> str | None:
        """What is not as it was at the start, in a clause; None if all is."""
        names = [name for name, _ in self.parameters.values()]
        if changed := (self.sums() != self.before).nonzero().flatten().tolist():
            return f"{names[changed[0]]} has changed ({len(changed)} of {len(names)} have)"
        thawed = [name for name, p in self.parameters.values() if p.requires_grad]
        return f"{thawed[0]} is to be trained" if thawed else None

    def check(self, step: int, ranks: Ranks = ALONE) -> None:
        """RunError, in all processes, names a parameter that is not as it was in one of them."""
        if found := [fault for fault in ranks.all_facts(self.fault()) if fault is not None]:
            raise RunError(
                f"at step {step} the frozen weights are no longer those of the start: {found[0]}; "
                "the checkpoint of this step is not written, and the same command goes on from "
                "the one before"
            )


def of_models(models: Sequence[nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for model in models:
        for name, p in model.named_parameters():
            if p.requires_grad:
                raise ValueError(f"the parameter {name} of a frozen model requires gradients")
            yield name, p


def bits(p: Tensor) -> Tensor:
    """The numbers that this process holds of a parameter, as integers of the same size."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return held(p)[0].contiguous().view(kinds[p.element_size()])
