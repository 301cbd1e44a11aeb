"""What the D-OPSD studies train: arms, each on several concepts with several training seeds.

Arms of all studies lie side by side by name, so "ablations" and "two" use the runs of "methods".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.dopsd_concepts import ROSTER, Taught, pairs, taught
from benchmarks.sda_plan import at_budget, parameters, recipe
from benchmarks.study_plan import Job, Variant, changed

from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import model_path
from fewstep.experiment.outline import outline
from fewstep.families.base import Family
from fewstep.flow.sigmas import levels
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sft import SFTConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.worlds.shapes.world import Shapes

MAIN = "dopsd"
FEWER = ("hue4", "outline5", "both7")
"""Concepts of studies with many arms."""
FULL_LR = 1e-4
"""Of every weight, as the recipe of LADD has it; an adapter's rate would destroy the model."""

Given = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, whatever the concept."""

    name: str
    question: str
    level: str
    base: Experiment


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
        return f"{self.arm.name}_{self.taught.name}{after}"

    def directory(self, runs: Path) -> Path:
        return self.job.directory(runs)

    def experiment(self, runs: Path) -> Experiment:
        if self.first is None:
            return self.job.experiment
        model = str(self.first.directory(runs) / "model")
        return changed(self.job.experiment, {"model": model})


def on_student(base: Experiment, student: str, family: Family, steps: int) -> Experiment:
    """The experiment on the model in a directory, at the levels and by the sampler of its own."""
    grid = levels(family.sigmas(steps))
    given: dict[str, Any] = {
        "model": student, "sampling.steps": steps, "sampling.sampler": family.sampler,
        "method.student_sigmas": grid,
    }  # fmt: skip
    if isinstance(base.method, SFTConfig | DreamBoothConfig | PSOConfig):
        given["method.student_probs"] = (1 / len(grid),) * len(grid)
    return changed(base, given)


def methods(of: Callable[[str], Experiment], assistant: str) -> list[Arm]:
    """D-OPSD and its yardsticks at one budget."""

    def arm(name: str, level: str, source: str, given: Given | None = None) -> Arm:
        return Arm(name=name, question="method", level=level, base=changed(of(source), given or {}))

    helped = {"assistant": assistant, "assistant_share": "symmetric"}
    return [
        arm(MAIN, "D-OPSD", "dopsd_shapes"),
        arm("sft", "SFT", "sft_tune_shapes"),
        arm("sft_assisted", "SFT with an assistant", "sft_tune_shapes", helped),
        arm("dreambooth", "DreamBooth", "dreambooth_shapes"),
        arm("pso", "PSO", "pso_shapes"),
        arm("offpolicy", "off-policy distillation", "offpolicy_shapes"),
    ]


def ablations(of: Callable[[str], Experiment], assistant: str) -> list[Arm]:
    """The recipe, then one change at a time. Batch and steps stay as they are, so that arms with
    more states have more passes."""
    base = of("dopsd_shapes")
    m = base.method
    assert isinstance(m, DOPSDConfig)
    off = OffPolicyConfig(student_sigmas=m.student_sigmas, form=m.form, teacher=m.teacher)
    lora = as_lora(base)
    alone = changed(base, {"data.prior": "none", "method.tether_weight": 0.0})

    def arm(question: str, name: str, level: str, given: Given) -> Arm:
        return Arm(name=name, question=question, level=level, base=changed(base, given))

    found = [Arm(name=MAIN, question="recipe", level="", base=base)]
    found += [arm("distance", f"form_{form}", form, {"method.form": form})
              for form in ("v", "x0", "mu") if form != m.form]  # fmt: skip
    found += [
        arm("teacher", f"ema{decay:g}", f"average of decay {decay:g} alone",
            {"method.teacher.decay": decay, "method.teacher.follow": 0.0})
        for decay in (0.0, 0.9, 0.99, 0.999, 0.9999)
    ]  # fmt: skip
    found.append(
        arm("teacher", "frozen", "the model before training", {"method.teacher.decay": None})
    )
    found += [
        arm("states a step", f"visits{n}", f"{n} of {len(m.student_sigmas)}", {"method.visits": n})
        for n in (1, 2)
    ]
    found += [
        Arm(name=f"levels{n}", question="levels of the roll-out", level=str(n),
            base=at_levels(base, n))
        for n in (2, 8)
    ]  # fmt: skip
    found += [
        Arm(name="untied", question="tether", level="none", base=alone),
        *(Arm(name=f"off_{states}", question="states, without tether", level=level,
              base=replace(alone, method=replace(off, states=states)))
          for states, level in (("samples", "pictures with noise"),
                                ("teacher", "the teacher's roll-out"))),
        arm("teacher sees", "words", "an enhanced prompt", {"data.folder.context": "prompt"}),
        Arm(name="lora", question="trained", level=lora_level(lora), base=lora),
        Arm(name="full", question="trained", level=f"every weight, rate {FULL_LR:g}",
            base=replace(base, adapter=None, optim=replace(
                base.optim, student=replace(base.optim.student, lr=FULL_LR)))),
    ]  # fmt: skip
    return found


def at_levels(base: Experiment, n: int) -> Experiment:
    """Rolled out on the grid of n steps, and judged on that of all other arms."""
    grid = outline_grid(base.model, n)
    return changed(base, {"sampling.steps": n, "method.student_sigmas": levels(grid)})


def outline_grid(model: str, steps: int) -> tuple[float, ...]:
    return outline(Path(model_path(model))).sigmas(steps)


def as_lora(base: Experiment) -> Experiment:
    """The LoRA on the same layers whose number of parameters comes nearest."""
    cfg = base.adapter
    if cfg is None or cfg.kind != "lokr":
        raise UserError("the ablations hold a LoRA against the recipe's LoKr: set adapter.kind to "
                        f"lokr, got {'none' if cfg is None else cfg.kind}")  # fmt: skip
    own = parameters(base.model, cfg)
    one = AdapterConfig(kind="lora", rank=1, targets=cfg.targets)
    rank = max(1, round(own / parameters(base.model, one)))
    return replace(base, adapter=replace(one, rank=rank))


def lora_level(base: Experiment) -> str:
    assert base.adapter is not None
    return f"LoRA of rank {base.adapter.rank}: {parameters(base.model, base.adapter):,} parameters"


def recipe_alone(of: Callable[[str], Experiment], assistant: str) -> list[Arm]:
    return [Arm(name=MAIN, question="recipe", level="", base=of("dopsd_shapes"))]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a study trains."""

    arms: Callable[[Callable[[str], Experiment], str], list[Arm]] = recipe_alone
    concepts: tuple[str, ...] = tuple(ROSTER)
    second: bool = False
    """Each second concept is trained on the model that has learnt the first."""


STUDIES: Mapping[str, Kind] = {
    "methods": Kind(arms=methods),
    "ablations": Kind(arms=ablations, concepts=FEWER),
    "two": Kind(second=True),
    "stack": Kind(concepts=FEWER),
}
SEEDS = 3


def plan(
    name: str, of: Callable[[str], Experiment], assistant: str, pictures: Path, *,
    concepts: Sequence[str] = (), seeds: int = SEEDS,
) -> list[Task]:  # fmt: skip
    """Every run of a study; all arms and concepts of a seed before the next seed. `of` makes the
    experiment of a recipe on the student."""
    kind, world = STUDIES[name], Shapes()
    arms = kind.arms(of, assistant)
    chosen = concepts or kind.concepts

    def of_seed(seed: int) -> Iterator[Task]:
        if not kind.second:
            for arm in arms:
                for one in taught(world, chosen):
                    yield Task(arm=arm, taught=one, seed=seed, pictures=pictures)
            return
        for one, two in pairs(world, chosen):
            first = Task(arm=arms[0], taught=one, seed=seed, pictures=pictures)
            yield first
            yield Task(arm=arms[0], taught=two, seed=seed, pictures=pictures, first=first)

    return [task for seed in range(seeds) for task in of_seed(seed)]


def recipe_on(
    student: str, steps: int, budget: int | None, given: Given, dopsd_only: Given
) -> Callable[[str], Experiment]:
    """Recipes on a student, at a budget, with other values; those of `dopsd_only` are for the
    method's own recipe."""
    family = outline(Path(model_path(student)))

    def of(name: str) -> Experiment:
        base = changed(on_student(recipe(name), student, family, steps), given)
        return at_budget(changed(base, dopsd_only if name == "dopsd_shapes" else {}), budget)

    return of
