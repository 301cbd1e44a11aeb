"""What the LADD studies train: variants of the recipe `ladd_shapes`, each with several seeds.

A variant is a set of overrides by dotted field. Levels that are the recipe's own values are no
variants of their own: they are the row "default".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fewstep.errors import UserError
from fewstep.experiment.codec import changed, flat, suggestion, to_dict
from fewstep.experiment.config import Experiment
from fewstep.methods.ladd import LADDConfig
from fewstep.train.alarms import WatchConfig

DEFAULT = "default"
REDUCED_STEPS = 300
"""The budget of ablations and of the wrong convention where none is given: they share the runs of
the default."""
MISALIGNED, EMA = 0.5, 0.99
"""Switched on where the recipe has them off."""

View = Literal["student", "raw", "own"]
"""Which weights are judged, and how: the exported EMA, the student as it was trained last, or the
EMA sampled in the wrong convention that it was trained in."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    name: str
    """Of its folder."""
    question: str = ""
    """What is varied; variants of one question stand together in the table."""
    level: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    wrong: bool = False
    """Trained in the wrong convention."""
    trained_as: str | None = None
    """The variant whose runs are judged in another `view`; None trains its own."""
    view: View = "student"


@dataclass(frozen=True, kw_only=True)
class Study:
    name: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    base: Experiment
    """The recipe at the study's budget."""

    def variant(self, name: str) -> Variant:
        return next(v for v in self.variants if v.name == name)

    def jobs(self) -> list[Job]:
        """One for each run to train; all variants of a seed before the next seed."""
        trained = [v for v in self.variants if v.trained_as is None]
        return [Job(v, seed, self.base) for seed in self.seeds for v in trained]


@dataclass(frozen=True)
class Job:
    """One training run."""

    variant: Variant
    seed: int
    base: Experiment

    @property
    def experiment(self) -> Experiment:
        return changed(self.base, {**self.variant.overrides, "seed": self.seed})

    def directory(self, runs: Path) -> Path:
        """Studies with the same budget share a run."""
        return runs / f"{self.base.loop.steps}_steps" / f"{self.variant.name}_{self.seed}"


def share_of(jobs: Sequence[Job], part: tuple[int, int]) -> Sequence[Job]:
    """Every n-th job: parts 0/n .. (n-1)/n hold each job once."""
    index, count = part
    return jobs[index::count]


def unwatched(experiment: Experiment) -> Experiment:
    """The same without looks at its health, after which a run might go back."""
    return replace(experiment, watch=WatchConfig())


def value(experiment: Experiment, key: str) -> Any:
    return flat(to_dict(experiment))[key]


WARM = ("method.warmup_steps", "optim.heads.warmup", "optim.student.warmup")
"""Counts of steps that are a share of a budget."""
COUNTS = (*WARM, "method.heads_first")
"""Counts of steps that stand for so many samples. New heads want theirs at every budget."""
RHYTHM = ("loop.log_every", "loop.checkpoint_every", "sampling.every")


def at_budget(base: Experiment, steps: int | None) -> Experiment:
    """So many steps in all, with warm-ups in proportion."""
    if steps is None or steps == base.loop.steps:
        return base
    scale = steps / base.loop.steps
    warm = {key: round(value(base, key) * scale) for key in WARM if value(base, key)}
    return changed(base, {"loop.steps": steps, **warm})


def method_of(base: Experiment) -> LADDConfig:
    if not isinstance(base.method, LADDConfig):
        raise UserError(f"a study of LADD needs a recipe of it, got method {base.method.name}")
    return base.method


def batch_overrides(base: Experiment, batch: int) -> dict[str, Any]:
    """Another batch size at equal samples seen: more steps, a learning rate in proportion to the
    root of the batch, an EMA over as many samples. One sample at a time cannot have a hinge loss or
    misaligned pairs."""
    scale = base.data.batch_size / batch
    if scale == 1:
        return {}
    found: dict[str, Any] = {"data.batch_size": batch, "loop.steps": round(base.loop.steps * scale)}
    found |= {key: round(value(base, key) * scale) for key in COUNTS if value(base, key)}
    found |= {key: max(1, round(value(base, key) * scale)) for key in RHYTHM}
    for phase in ("heads", "student"):
        found[f"optim.{phase}.lr"] = value(base, f"optim.{phase}.lr") / math.sqrt(scale)
    if decay := method_of(base).ema_decay:
        found["method.ema_decay"] = 1 - (1 - decay) / scale
    if batch == 1:
        found |= {"method.loss": "softplus", "method.misaligned_weight": 0.0}
    return found


def ablations(base: Experiment) -> tuple[Variant, ...]:
    m = method_of(base)
    on = m.misaligned_weight or MISALIGNED
    one = "1 (softplus)" if m.loss == "hinge" else "1"
    levels: list[tuple[str, str, str, dict[str, Any]]] = [
        *(("N", f"n{n}", str(n), {"method.student_every": n})
          for n in (1, 2, 3, 5)),
        *(("re-noise m", f"m{x:g}", f"{x:g}", {"method.renoise_mean": x})
          for x in (-0.5, 0.0, 0.5, 1.0)),
        *(("batch", f"batch{b}", one if b == 1 else str(b),
           batch_overrides(base, b)) for b in (1, 4, 32)),
        *(("loss", f"loss_{name}", name, {"method.loss": name}) for name in ("hinge", "softplus")),
        *(("misaligned pairs", f"misaligned{w:g}", f"weight {w:g}" if w else "off",
           {"method.misaligned_weight": w}) for w in (0.0, on)),
    ]  # fmt: skip
    variants = [
        Variant(name=name, question=question, level=level, overrides=overrides)
        for question, name, level, overrides in levels
        if any(value(base, key) != wanted for key, wanted in overrides.items())
    ]
    ema = "EMA"
    if m.ema_decay:  # it takes no part in training, so the same runs tell what it is without
        off = Variant(name="ema_off", question=ema, level="off", trained_as=DEFAULT, view="raw")
        return (Variant(name=DEFAULT), *variants, off)
    with_it = {"method.ema_decay": EMA}
    return (
        Variant(name=DEFAULT),
        *variants,
        Variant(name="ema_on", question=ema, level=f"{EMA:g}", overrides=with_it),
    )


def seeds(base: Experiment) -> tuple[Variant, ...]:
    return (Variant(name=DEFAULT),)


def convention(base: Experiment) -> tuple[Variant, ...]:
    what = "convention"
    return (
        Variant(name=DEFAULT),
        Variant(name="wrong", question=what, level="wrong in training", wrong=True),
        Variant(
            name="wrong_own",
            question=what,
            level="wrong in training and sampling",
            trained_as="wrong",
            view="own",
        ),
    )


STUDIES: dict[str, tuple[Callable[[Experiment], tuple[Variant, ...]], int, int | None]] = {
    "seeds": (seeds, 5, None),
    "ablations": (ablations, 3, REDUCED_STEPS),
    "convention": (convention, 3, REDUCED_STEPS),
}
"""Variants, training seeds, and steps (None: the recipe's) of each study."""


def plan(name: str, base: Experiment, steps: int | None = None, n: int | None = None) -> Study:
    """The study of this name; `steps` and `n` replace its budget and number of training seeds."""
    if name not in STUDIES:
        raise UserError(f"there is no study {name!r}; {suggestion(name, STUDIES)}")
    variants, number, budget = STUDIES[name]
    base = at_budget(base, steps or budget)
    return Study(
        name=name, variants=variants(base), seeds=tuple(range(n or number)), base=base
    )  # fmt: skip
