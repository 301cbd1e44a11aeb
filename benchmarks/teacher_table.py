"""What `benchmarks.teacher` measures: cells of steps x guidance, and what is claimed of two."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import common
from benchmarks.common import drawn, true_pictures, weights_of

from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.judge import FRESH
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.metrics import compare, evaluate
from fewstep.evaluate.statistics import Estimate
from fewstep.families.zimage import ZImage
from fewstep.worlds.shapes.world import Shapes

FULL = (20,)
"""Step counts that count as full."""
FEW = 4

Metrics = Mapping[str, Estimate]


@dataclass(frozen=True)
class Cell:
    steps: int
    w: float

    @property
    def name(self) -> str:
        return f"{self.steps} step{'s' * (self.steps > 1)}, w = {self.w:g}"

    @property
    def calls(self) -> int:
        return self.steps * (1 if self.w == 1 else 2)


class Table:
    """Draws cells on one set of prompts and seeds."""

    def __init__(
        self, family: ZImage, world: Shapes, prompts: Sequence[str], seeds: int,
        args: argparse.Namespace,
    ) -> None:  # fmt: skip
        self.family, self.world, self.args = family, world, args
        self.prompts, self.seeds = tuple(prompts), tuple(range(seeds))
        self.folder = common.roots(args).measured

    def spec(self, cell: Cell) -> GenerationSpec:
        return GenerationSpec(
            model=cell.name, fingerprint=self.family.fingerprint(), prompts=self.prompts,
            seeds=self.seeds, sigmas=self.family.sigmas(cell.steps),
            sampler=self.family.sampler, guidance=cell.w,
        )  # fmt: skip

    def draw(self, cell: Cell) -> Measures:
        return drawn(
            self.folder, self.family, self.spec(cell), self.world,
            engine=self.args.engine, batch=self.args.batch,
        ).measures  # fmt: skip

    def truth(self, offset: int = 0, through: ZImage | None = None) -> Measures:
        seeds = [seed + offset for seed in self.seeds]
        return true_pictures(self.folder, self.world, self.prompts, seeds, through)

    def metrics(self, m: Measures) -> Metrics:
        return evaluate(m, self.truth(), weights_of(len(self.prompts)))

    def bounds(self) -> dict[str, Metrics]:
        """What the metrics give for true pictures, and for what the autoencoder leaves of them."""
        return {
            "truth, other seeds": self.metrics(self.truth(FRESH)),
            "truth through the autoencoder": self.metrics(self.truth(FRESH, self.family)),
        }


@dataclass(frozen=True)
class Claimed:
    """What the claims stand on: rows of many prompts, with the layouts of many seeds."""

    full: Cell
    rows: Mapping[str, Metrics]
    """By name: the cell at full steps, the one at few, and the bounds."""
    drop: Estimate
    """Adherence at full steps minus that at few, paired."""

    @staticmethod
    def measure(full: Cell, many: Table, layouts: Table) -> Claimed:
        few = Cell(FEW, 1)
        rows = {
            cell.name: dict(many.metrics(many.draw(cell)))
            | {"layout_diversity": layouts.metrics(layouts.draw(cell))["layout_diversity"]}
            for cell in (full, few)
        }
        weights = weights_of(len(many.prompts))
        minus = compare(many.draw(full), many.draw(few), many.truth(), weights)
        return Claimed(full, rows | many.bounds(), minus["adherence"])


def best(found: Mapping[Cell, Metrics], steps: int) -> Cell:
    """The w with the highest adherence at so many steps; the lower KID breaks a tie."""
    own = [cell for cell in found if cell.steps == steps]
    return max(own, key=lambda c: (found[c]["adherence"].value, -found[c]["kid"].value))
