"""What the D-OPSD studies train: arms, each on several concepts with several training seeds.

Runs of all studies lie side by side by name, so "ablations" and "two" use those of "methods".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.dopsd_arms import MAIN, Arm, Recipes, ablations, methods, recipe_alone
from benchmarks.dopsd_concepts import OTHERS, ROSTER, Taught, pairs, taught
from benchmarks.study_plan import Job, Variant, changed

from fewstep.experiment.config import Experiment
from fewstep.worlds.shapes.world import Shapes

FEWER = ("hue4", "outline5", "both7")
"""Concepts of the study that looks at every pair of strengths."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training run."""

    arm: Arm
    taught: Taught
    seed: int
    pictures: Path
    """The folder of all concepts' pictures."""
    first: Task | None = None
    """The run whose model this one begins with."""
    held: bool = False
    """Whether the prompts of the tether have the first's among them."""

    @property
    def job(self) -> Job:
        base = changed(self.arm.base, {"data.folder.path": str(self.pictures / self.folder)})
        variant = Variant(name=self.name, question=self.arm.question, level=self.arm.level)
        return Job(variant, self.seed, base)

    @property
    def folder(self) -> str:
        """Of the concept's pictures; the word that calls it is in the captions."""
        return self.taught.name if self.first is None else f"{self.taught.name}_second"

    @property
    def name(self) -> str:
        after = "" if self.first is None else f"_after_{self.first.taught.name}"
        return f"{self.arm.name}_{self.taught.name}{after}{'_held' if self.held else ''}"

    def directory(self, runs: Path) -> Path:
        return self.job.directory(runs)

    def experiment(self, runs: Path) -> Experiment:
        if self.first is None:
            return self.job.experiment
        given: dict[str, Any] = {"model": str(self.first.directory(runs) / "model")}
        if self.held:
            # Shapes knows no [V], so the prompts are checked by no world
            given |= {"data.prompts_file": str(self.prompts), "world": "none",
                      "data.samples.prompts": OTHERS}  # fmt: skip
        return changed(self.job.experiment, given)

    @property
    def prompts(self) -> Path:
        """The prompts of the tether, where the first's are held."""
        assert self.first is not None
        return self.pictures / f"{self.first.taught.name}.others.txt"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a study trains."""

    arms: Callable[[Recipes, str], list[Arm]] = recipe_alone
    concepts: tuple[str, ...] = tuple(ROSTER)
    second: bool = False
    """Each second concept is trained on the model that has learnt the first, with the prompts of
    the tether as they are and with the first's among them."""
    spread: bool = False
    """Each concept is learnt with one training seed, the seeds taking turns: as many runs say more
    of concepts, which differ most, than all seeds on a few of them."""


STUDIES: Mapping[str, Kind] = {
    "methods": Kind(arms=methods),
    "ablations": Kind(arms=ablations, spread=True),
    "two": Kind(second=True),
    "stack": Kind(concepts=FEWER),
}
SEEDS = 3


def plan(
    name: str, of: Recipes, assistant: str, pictures: Path, *,
    concepts: Sequence[str] = (), seeds: int = SEEDS, others: int | None = None,
) -> list[Task]:  # fmt: skip
    """Every run of a study; all arms and concepts of a seed before the next seed. `of` makes the
    experiment of a recipe on the student; arms but the recipe have `others` seeds where that is
    fewer. Of a study that spreads its seeds all arms of a concept come before the next concept."""
    kind, world = STUDIES[name], Shapes()
    fewer = seeds if others is None else others
    arms = kind.arms(of, assistant)
    chosen = concepts or kind.concepts
    if kind.spread:
        return [
            Task(arm=arm, taught=one, seed=i % seeds, pictures=pictures)
            for i, one in enumerate(taught(world, chosen)) for arm in arms
        ]  # fmt: skip

    def of_seed(seed: int) -> Iterator[Task]:
        if not kind.second:
            for arm in arms if seed < fewer else [arm for arm in arms if arm.name == MAIN]:
                for one in taught(world, chosen):
                    yield Task(arm=arm, taught=one, seed=seed, pictures=pictures)
            return
        for one, two in pairs(world, chosen):
            first = Task(arm=arms[0], taught=one, seed=seed, pictures=pictures)
            yield first
            second = Task(arm=arms[0], taught=two, seed=seed, pictures=pictures, first=first)
            yield from (second, replace(second, held=True))

    return [task for seed in range(seeds) for task in of_seed(seed)]
