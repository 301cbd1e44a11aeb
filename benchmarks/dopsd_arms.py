"""The arms of the D-OPSD studies: one way to train each, whatever the concept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.sda_plan import at_budget, parameters, recipe
from benchmarks.study_plan import changed

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

MAIN = "dopsd"
FULL_LR = 1e-4
"""Of every weight, as the recipe of LADD has it; an adapter's rate would destroy the model."""
Given = Mapping[str, Any]
CAPTIONS: Given = {"data.folder.prompts": None}
IN_BLOCKS: Given = {"adapter.targets": ("attention", "feed_forward"), "adapter.factor": 4,
                    "optim.student.lr": 2e-3}  # fmt: skip
"""What LoRA trainers change: the blocks that picture and prompt go through together. They are six
times as many layers, which the recipe's factor and rate would move too far."""
Recipes = Callable[[str], Experiment]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, whatever the concept."""

    name: str
    question: str
    level: str
    base: Experiment


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


def methods(of: Recipes, assistant: str) -> list[Arm]:
    """D-OPSD and its yardsticks at one budget."""

    def arm(name: str, level: str, source: str, given: Given | None = None) -> Arm:
        return Arm(name=name, question="method", level=level, base=changed(of(source), given or {}))

    helped = {"assistant": assistant, "assistant_share": "symmetric"}
    return [
        arm(MAIN, "D-OPSD", "dopsd_shapes"),
        arm("captions", "D-OPSD on the captions alone", "dopsd_shapes", CAPTIONS),
        arm("sft", "SFT", "sft_tune_shapes"),
        arm("sft_assisted", "SFT with an assistant", "sft_tune_shapes", helped),
        arm("sft_blocks", "SFT of the blocks", "sft_tune_shapes", IN_BLOCKS),
        arm("dreambooth", "DreamBooth", "dreambooth_shapes"),
        arm("pso", "PSO", "pso_shapes"),
        arm("offpolicy", "off-policy distillation", "offpolicy_shapes"),
    ]


def ablations(of: Recipes, assistant: str) -> list[Arm]:
    """The recipe, then one change at a time. Batch and steps stay as they are, so that arms with
    more states have more passes."""
    base = of("dopsd_shapes")
    m = base.method
    assert isinstance(m, DOPSDConfig)
    off = OffPolicyConfig(
        student_sigmas=m.student_sigmas, states="teacher", visits=m.visits, form=m.form,
        teacher=m.teacher,
    )  # fmt: skip
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
        for n in (1, 2, 4)
        if n != m.visits
    ]
    found += [
        Arm(name=f"levels{n}", question="levels of the roll-out", level=str(n),
            base=at_levels(base, n))
        for n in (2, 8)
    ]  # fmt: skip
    found += [
        Arm(name="untied", question="tether", level="none", base=alone),
        Arm(name="off_teacher", question="tether", level="none, and the teacher's own roll-out",
            base=replace(alone, method=off)),
        arm("prompts", "captions", "the captions alone", CAPTIONS),
        arm("teacher sees, of the captions alone", "words", "an enhanced prompt",
            {"data.folder.context": "prompt", **CAPTIONS}),
        arm("trained", "blocks", "attention and feed-forward of the blocks", IN_BLOCKS),
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


def recipe_alone(of: Recipes, assistant: str) -> list[Arm]:
    return [Arm(name=MAIN, question="recipe", level="", base=of("dopsd_shapes"))]


def recipe_on(
    student: str, steps: int, budget: int | None, given: Given, dopsd_only: Given
) -> Recipes:
    """Recipes on a student, at a budget, with other values; those of `dopsd_only` are for the
    method's own recipe."""
    family = outline(Path(model_path(student)))

    def of(name: str) -> Experiment:
        base = changed(on_student(recipe(name), student, family, steps), given)
        return at_budget(changed(base, dopsd_only if name == "dopsd_shapes" else {}), budget)

    return of
