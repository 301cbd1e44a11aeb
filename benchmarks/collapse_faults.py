"""Ways to make a LADD collapse: what a public report has lost runs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.wrong_convention import WrongConvention, build_wrong

from fewstep.data.batches import Batch
from fewstep.experiment.builder import Built, build
from fewstep.experiment.config import Experiment
from fewstep.experiment.probes import Probes
from fewstep.methods.ladd import LADD
from fewstep.train.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the configuration."""
    wrong: bool = False
    """Whether student and teacher run in the wrong convention."""
    singles: bool = False
    """Whether a hinge sees one sample at a time, which a run refuses otherwise."""
    curable: bool = False
    """Whether going back, slower, can help: the fault is not in the pipeline itself."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            if self.singles:
                patch.setattr(LADD, "check", lambda self, batch: None)
            yield


HEALTHY = "healthy"
FAULTS = (
    Fault(name=HEALTHY),
    Fault(name="student rate x 20", changes={"optim.student.lr": 2e-3}, curable=True),
    Fault(name="hinge on single samples", singles=True),
    Fault(name="re-noise far too clean", changes={"method.renoise_mean": -6.0}),
    Fault(name="wrong convention", wrong=True),
    Fault(name="heads that do not train", changes={"optim.heads.lr": 1e-12}),
)


def built_of(fault: Fault, experiment: Experiment, directory: Path) -> Built:
    """As `fewstep train` builds it, with the fault and a watch over it."""
    if fault.wrong:
        return watched(build_wrong(experiment, directory), experiment, directory)
    built = build(experiment, directory)
    return replace(built, batches=singly(built.batches)) if fault.singles else built


def watched(built: Built, experiment: Experiment, directory: Path) -> Built:
    """With a watch over the method as it is, whose student began as the wrong model."""
    start = WrongConvention(built.family.backbone)
    probes = Probes(
        experiment, built.family, built.world, built.method, start, built.batches,
        directory / "samples" / "health",
    )  # fmt: skip
    loop = experiment.loop
    watch = Watch(
        experiment.watch, probes, steps=loop.steps, checkpoint_every=loop.checkpoint_every
    )
    return replace(built, watch=watch)


def singly(batches: Callable[[int], list[Batch]]) -> Callable[[int], list[Batch]]:
    """Every sample a micro-batch of its own."""

    def split(step: int) -> list[Batch]:
        return [
            Batch(ids=(name,), x0=batch.x0[i : i + 1], cond=batch.cond[i : i + 1])
            for batch in batches(step)
            for i, name in enumerate(batch.ids)
        ]

    return split
