"""What the SDA studies train: levels of the recipes of an adapter, each with several seeds.

As in the studies of LADD (`study_plan`), a level that is the recipe's own value is no variant of
its own but the row "default". Studies of the same budget share their runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sda_drawings import Drawing, strengths, yardsticks
from benchmarks.study_plan import DEFAULT, Job, Study, Variant, changed, unwatched, value

from fewstep.errors import UserError
from fewstep.experiment.codec import suggestion
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import model_path
from fewstep.experiment.outline import outline
from fewstep.methods.sda import SDAConfig
from fewstep.nets.adapters import AdapterConfig, adapt, adapters_of
from fewstep.nets.share import share
from fewstep.recipes import RECIPES

STUDENTS: Mapping[str, tuple[str, str, str]] = {
    "4": ("dmd2_shapes_narrow", "sda_shapes", "undistill_shapes"),
    "8": ("dmd2_shapes_narrow8", "sda_shapes8", "undistill_shapes8"),
}
"""By its steps: the recipe of the student that draws nearly one picture, of its adapter, and of an
assistant that undoes its distillation."""
STEPS = ("optim.student.warmup",)
"""Counts of steps that are a share of the budget."""

Task = Job | Drawing
Levels = Callable[[Experiment, str], tuple[Variant, ...]]
"""Of a recipe and the file of an assistant."""
Drawings = Callable[[Experiment, tuple[int, ...]], tuple[Drawing, ...]]


def recipe(name: str) -> Experiment:
    """As it is shipped, but that nobody watches it: what goes wrong in a study is its result."""
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}; {suggestion(name, RECIPES)}")
    return unwatched(RECIPES[name]())


def method_of(base: Experiment) -> SDAConfig:
    if not isinstance(base.method, SDAConfig):
        raise UserError(f"a study of SDA needs a recipe of it, got method {base.method.name}")
    return base.method


def at_budget(base: Experiment, steps: int | None) -> Experiment:
    """So many steps in all, with the warm-up in proportion."""
    if steps is None:
        return base
    scale = steps / base.loop.steps
    warm = {key: round(value(base, key) * scale) for key in STEPS}
    return changed(base, {"loop.steps": steps, **warm})


def parameters(model: str, cfg: AdapterConfig) -> int:
    """How many numbers of such an adapter train on a model; its weights are not read."""
    tree = share(outline(Path(model_path(model))).backbone)
    adapt(tree, cfg, seed=0)
    return sum(p.numel() for adapter in adapters_of(tree).values() for p in adapter.parameters())


def equal_lora(base: Experiment) -> tuple[AdapterConfig, int, int]:
    """The LoRA on the same layers that comes nearest in number, with its and the recipe's own."""
    cfg = base.adapter
    if cfg is None or cfg.kind != "lokr":
        raise UserError(
            "the ablations hold a LoRA against the recipe's LoKr, but adapter is "
            f"{'none' if cfg is None else cfg.kind}; set adapter.kind to lokr"
        )
    assert base.teacher is not None  # SDA's experiments have one
    own = parameters(base.teacher, cfg)
    of_rank_one = parameters(
        base.teacher, AdapterConfig(kind="lora", rank=1, targets=cfg.targets)
    )  # fmt: skip
    lora = AdapterConfig(kind="lora", rank=max(1, round(own / of_rank_one)), targets=cfg.targets)
    return lora, parameters(base.teacher, lora), own


def equal_noises(base: Experiment, noises: int) -> dict[str, Any]:
    """Another number of noises at as many samples a step: fewer prompts for more noises."""
    scale = method_of(base).noises / noises
    found: dict[str, Any] = {"method.noises": noises}
    for key in ("data.batch_size", "data.micro_batch"):
        if (count := value(base, key)) is not None:
            found[key] = max(1, round(count * scale))
    return found


def ablations(base: Experiment, assistant: str) -> tuple[Variant, ...]:
    """The recipe, then one level of one question at a time."""
    m = method_of(base)
    lora, of_lora, own = equal_lora(base)
    levels: list[tuple[str, str, str, dict[str, Any]]] = [
        *(("pooling", f"pool{n or '_none'}", f"{n or 'means alone'}", {"method.pool": n})
          for n in (1, 2, 4, 8, None)),
        *(("distance", f"distance_{d}", d, {"method.distance": d}) for d in ("cosine", "mse")),
        *(("clean estimate", name, text, {"method.estimate": name})
          for name, text in (("straight", "x - sigma v"), ("card", "x - v"))),
        *(("levels gated", f"gate{n}", f"last {n}" if n else "none", {"method.gate": n})
          for n in (0, 2)),
        *(("anchor of gated levels", f"hold{w:g}", f"weight {w:g}", {"method.hold_weight": w})
          for w in (1.0, m.hold_weight) if m.gate),
        *(("anchor", f"anchor{w:g}", f"weight {w:g}", {"method.anchor_weight": w})
          for w in (0.0, m.anchor_weight or 1.0)),
        *(("anchor delta", f"delta{d:g}", f"{d:g}", {"method.anchor_delta": d})
          for d in (0.02, 0.08, 0.3)),
        ("states", "own", "the student's own, no pictures",
         {"method.states": "own", "data.source": "prompts"}),
        ("states", "pictures", "pictures, noised",
         {"method.states": "samples", "data.source": "samples"}),
        *(("teacher's calls", f"calls{n}", str(n), {"method.teacher_steps": n}) for n in (1, 4)),
        *(("teacher's w", f"w{w:g}", f"{w:g}", {"method.guidance": w}) for w in (1.0, 2.0)),
        *(("noises a prompt", f"noises{n}", str(n), equal_noises(base, n)) for n in (2, 4)),
        ("assistant", "absent", "absent", {"assistant": None}),
        *(("assistant", f"assistant_{who}", text,
           {"assistant": assistant, "assistant_share": who})
          for who, text in (("asymmetric", "anchor and first noise"), ("symmetric", "all"))),
        ("adapter", "lora", f"LoRA of rank {lora.rank}: {of_lora:,} parameters, LoKr {own:,}",
         {"adapter.kind": "lora", "adapter.rank": lora.rank}),
    ]  # fmt: skip
    return (
        Variant(name=DEFAULT),
        *(
            Variant(name=name, question=question, level=level, overrides=overrides)
            for question, name, level, overrides in levels
            if any(value(base, key) != wanted for key, wanted in overrides.items())
        ),
    )


def recipe_alone(base: Experiment, assistant: str) -> tuple[Variant, ...]:
    return (Variant(name=DEFAULT),)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a study is of."""

    seeds: int
    """Training seeds."""
    students: tuple[str, ...] = ("4",)
    variants: Levels = recipe_alone
    drawings: Drawings | None = None
    """What is drawn with runs that are there; None trains the variants."""


STUDIES: Mapping[str, Kind] = {
    "seeds": Kind(seeds=5),
    "seeds8": Kind(seeds=5, students=("8",)),
    "ablations": Kind(seeds=3, students=("8",), variants=ablations),
    "yardsticks": Kind(seeds=1, students=("4", "8"), drawings=yardsticks),
    "strengths": Kind(seeds=3, students=("8",), drawings=strengths),
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A study on one student."""

    on: str
    """The student, by its steps."""
    study: Study
    tasks: tuple[Task, ...]

    @property
    def base(self) -> Experiment:
        return self.study.base

    def share(self, part: tuple[int, int]) -> tuple[Task, ...]:
        """Every n-th task: parts 0/n .. (n-1)/n hold each once."""
        index, count = part
        return self.tasks[index::count]


def plan(
    name: str, on: str, base: Experiment, assistant: str, steps: int | None = None,
    n: int | None = None,
) -> Bench:  # fmt: skip
    """The study of this name on one student, with the file of an assistant; `steps` and `n`
    replace the recipe's budget and the number of training seeds."""
    kind, base = STUDIES[name], at_budget(base, steps)
    seeds = tuple(range(n or kind.seeds))
    study = Study(name=name, variants=kind.variants(base, assistant), seeds=seeds, base=base)
    tasks = study.jobs() if kind.drawings is None else kind.drawings(base, seeds)
    return Bench(on=on, study=study, tasks=tuple(tasks))
