"""The retention gauge of an experiment: which pictures it draws, and what it makes of them.

RUN/samples/retention/step_000100_at_04.png      prompts outside of the concept, at 4 steps
                      step_000100_concept.png    captions of the training pictures

Those of step 0 are the untouched model's: drawn once, read again by a run that resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewstep.data.buckets import Size
from fewstep.data.folder import Folder
from fewstep.errors import UserError
from fewstep.evaluate import retention
from fewstep.evaluate.gallery import eight_bit
from fewstep.evaluate.generate import GenerationSpec, generate
from fewstep.evaluate.in_context import apart
from fewstep.experiment.config import Experiment
from fewstep.experiment.instruments import extractor_of, training_pictures
from fewstep.experiment.prompts import lines_of, world_prompts
from fewstep.experiment.strips import read_strip, write_strip
from fewstep.experiment.teacher_prompts import captions
from fewstep.families.base import Backbone, Family
from fewstep.methods.base import Method
from fewstep.runs import Run
from fewstep.shapes import Pixels
from fewstep.train.gauge import Gauge
from fewstep.train.optim import Optim
from fewstep.train.retention import Row
from fewstep.worlds.base import World

CONCEPT = "concept"


def make_gauge(
    experiment: Experiment, family: Family, world: World | None, method: Method,
    optims: Mapping[str, Optim], folder: Folder | None, samples: Path,
) -> Gauge | None:  # fmt: skip
    """The gauge of an experiment, with its pictures in `samples`; None where it wants none."""
    if not experiment.retention.every:
        return None
    assert folder is not None  # Experiment checks that there is one
    looking = Looking(experiment, family, world, method, folder, samples / "retention")
    return Gauge(
        experiment.retention, looking, method.modules, optims, last_step=experiment.loop.steps
    )


def of_best(gauge: Gauge, run: Run, experiment: Experiment) -> Experiment:
    """Load the best weights of a run; the experiment that ends with them, for what is written of
    it. UserError where no look at the student was good enough to be kept."""
    kept = gauge.take_best(run)
    if kept.step == 0:
        raise UserError(nothing_good(run, experiment))
    return replace(experiment, loop=replace(experiment.loop, steps=kept.step))


def nothing_good(run: Run, experiment: Experiment) -> str:
    return (
        f"at every look the student of {run.directory} had collapsed (a loss above "
        f"retention.collapse = {experiment.retention.collapse:g}), so there is nothing to write; "
        "start another run with a lower optim.student.lr"
    )


class Looking:
    """`train.gauge.Gauge`'s measure: pictures of the exported model beside the untouched one's."""

    def __init__(
        self, experiment: Experiment, family: Family, world: World | None, method: Method,
        folder: Folder, directory: Path,
    ) -> None:  # fmt: skip
        self.family, self.world, self.method, self.directory = family, world, method, directory
        cfg, sampling = experiment.retention, experiment.sampling
        self.cfg, self.few = cfg, sampling.steps
        size = Size(*experiment.data.size())
        outside = tuple(outside_prompts(experiment, world))
        told = tuple(dict.fromkeys(one.prompt for one in captions(folder)))[: cfg.concept]

        def spec(prompts: tuple[str, ...], seeds: int, steps: int) -> GenerationSpec:
            return GenerationSpec(
                model="student", fingerprint="", prompts=prompts, seeds=tuple(range(seeds)),
                sigmas=family.sigmas(steps), sampler=sampling.sampler, height=size.height,
                width=size.width,
            )  # fmt: skip

        counts = sorted({self.few, *cfg.steps})
        self.outside = {steps: spec(outside, cfg.seeds, steps) for steps in counts}
        self.concept = spec(told, -(-cfg.concept // len(told)), self.few)
        self.features, self.extract = extractor_of(
            cfg.extractor, world, next(family.backbone.parameters()).device
        )
        self.shown = self.extract(training_pictures(folder, size))

    def __call__(self, step: int) -> Row:
        concept, before = self.pair(step, CONCEPT, self.concept)
        near, near_before = (
            apart(self.extract(images), self.shown).mean() for images in (concept, before)
        )
        at = {n: self.outside_at(step, n, spec) for n, spec in self.outside.items()}
        return Row(
            step=step, concept=float(1 - near / near_before), loss=at[self.few]["loss"],
            details={
                "features": self.features, "own_steps": self.few,
                "steps": {str(n): own for n, own in at.items()},
            },
        )  # fmt: skip

    def outside_at(self, step: int, steps: int, spec: GenerationSpec) -> dict[str, Any]:
        """What is measured at one number of steps."""
        student, before = self.pair(step, f"at_{steps:02d}", spec)
        looks = retention.ratios(student, before)
        shifted = retention.shift(self.extract(student), self.extract(before), len(spec.seeds))
        found: dict[str, Any] = {**looks, "shift": shifted}
        if self.world is None:
            return {**found, "loss": retention.loss_unjudged(shifted, looks)}
        own, other = (
            retention.adherence(images, spec.prompts, len(spec.seeds), self.world)
            for images in (student, before)
        )
        found |= {"adherence": own, "adherence_before": other}
        return {**found, "loss": retention.loss_judged(own, other)}

    def pair(self, step: int, what: str, spec: GenerationSpec) -> tuple[Pixels, Pixels]:
        """Pictures of the student and of the untouched model, as files show them."""
        kept = self.path(0, what)
        if kept.is_file():
            before = read_strip(kept, spec.total)
        else:
            before = self.drawn(self.family.backbone, spec)
            write_strip(kept, before)
        if step == 0:
            return before, before
        exported = self.method.exported()
        assert isinstance(exported, Backbone)
        student = self.drawn(exported, spec)
        write_strip(self.path(step, what), student)
        return student, before

    def drawn(self, backbone: Backbone, spec: GenerationSpec) -> Pixels:
        return eight_bit(generate(self.family, backbone, spec, batch_size=self.cfg.batch))

    def path(self, step: int, what: str) -> Path:
        return self.directory / f"step_{step:06d}_{what}.png"


def outside_prompts(experiment: Experiment, world: World | None) -> list[str]:
    """Prompts that have nothing to do with the concept, the same at every look."""
    n = experiment.retention.prompts
    lines = lines_of(experiment, world, n, "retention.prompts")
    return world_prompts(world, "val", n) if lines is None else lines[-n:]
