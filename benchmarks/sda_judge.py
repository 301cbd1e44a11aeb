"""How an adapter is judged: on prompts and seeds that student, teacher and all adapters share."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, assert_never

from benchmarks import common
from benchmarks.common import Roots, Seen
from benchmarks.sda_drawings import Drawing, Gated, blend
from benchmarks.sda_plan import Task
from benchmarks.sda_results import Found, Result, found_of
from benchmarks.study_judge import WATCHED, training_minutes
from benchmarks.study_plan import DEFAULT, Job, Variant

from fewstep.cli.opening import read_experiment
from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec, generate
from fewstep.evaluate.judge import FRESH
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.metrics import draws, estimates
from fewstep.evaluate.statistics import Draws, Estimate, Weights
from fewstep.experiment.codec import difference
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family
from fewstep.experiment.varieties import fitted
from fewstep.families.zimage import ZImage
from fewstep.flow.variety import FirstStepBy, Variety
from fewstep.hashing import text_hash
from fewstep.runs import read_metrics
from fewstep.worlds.shapes.world import Shapes


@dataclass(frozen=True)
class References:
    """What every adapter is held against, on the same prompts and seeds."""

    truth: Measures
    again: Measures
    """True pictures of other seeds: what perfect pictures would get."""
    full: Measures
    few: Measures
    student: Measures

    @cached_property
    def weights(self) -> Weights:
        return common.weights_of(len(self.truth.prompts))

    def of(self, own: Measures) -> dict[str, Estimate]:
        """Every metric with its interval over prompts."""
        return estimates(own, draws(own, self.truth, self.weights))

    @cached_property
    def of_full(self) -> dict[str, Draws]:
        return draws(self.full, self.truth, self.weights)

    @cached_property
    def of_student(self) -> dict[str, Draws]:
        return draws(self.student, self.truth, self.weights)

    def found(self, own: Measures) -> Found:
        """An image set against the truth, and between student and teacher at full steps."""
        of_own = draws(own, self.truth, self.weights)
        return found_of(own, of_own, self.student, self.of_student, self.of_full)


class Judge:
    """Draws and measures models on the study's prompts. `base.model` is the student."""

    def __init__(self, args: argparse.Namespace, base: Experiment) -> None:
        assert base.teacher is not None  # SDA's experiments have one
        self.args, self.base = args, base
        self.where: Roots = common.roots(args)
        self.world = Shapes()
        self.device = common.few_threads(args.threads)
        self.teacher, self.student = self.load(base.teacher), self.load(base.model)
        pair = text_hash(f"{self.student.fingerprint()} {self.teacher.fingerprint()}")[:8]
        self.runs = self.where.work / "sda" / pair
        """Runs of one student and one teacher: trained anew they keep names, not weights."""
        self.prompts = tuple(dict.fromkeys(self.world.prompts("test", args.prompts)))
        self.seeds = tuple(range(args.seeds))

    @property
    def steps(self) -> int:
        return self.base.sampling.steps

    @property
    def full(self) -> tuple[int, float]:
        """Steps and w of the teacher that the student should be as diverse as."""
        samples = self.base.data.samples
        return self.base.eval.full(samples.steps, samples.guidance)

    def load(self, model: str) -> ZImage:
        return load_family(model, self.device, self.base.dtype, self.base.engine)

    def spec(
        self, name: str, family: ZImage, steps: int, w: float = 1, variety: Variety | None = None
    ) -> GenerationSpec:
        return GenerationSpec(
            model=name, fingerprint=family.fingerprint(), prompts=self.prompts, seeds=self.seeds,
            sigmas=family.sigmas(steps), sampler=family.sampler, guidance=w,
            height=self.base.data.samples.height, width=self.base.data.samples.width,
            variety=fitted(variety, family, self.teacher),
        )  # fmt: skip

    def see(self, family: ZImage, spec: GenerationSpec, how: str = "") -> Seen:
        """The kept measurement of a spec's pictures; `how` says what weights do not."""
        folder, engine, batch = self.where.measured, self.base.engine + how, self.args.batch
        if not isinstance(spec.variety, FirstStepBy):
            return common.drawn(folder, family, spec, self.world, engine=engine, batch=batch)
        key = {**spec.to_json(), "model": "", "engine": engine}
        first = self.teacher.backbone
        return common.seen(
            folder, key,
            lambda: generate(family, family.backbone, spec, batch_size=batch, first=first),
            spec.prompts, spec.seeds, self.world,
        )  # fmt: skip

    def references(self) -> References:
        """Truth, teacher and student; whichever process comes first measures them."""
        folder, student = self.where.measured, self.student
        (steps, w), few = self.full, self.steps
        fresh = [seed + FRESH for seed in self.seeds]
        with alone(folder):
            return References(
                common.true_pictures(folder, self.world, self.prompts, self.seeds),
                common.true_pictures(folder, self.world, self.prompts, fresh),
                self.see(self.teacher, self.spec("teacher, full", self.teacher, steps, w)).measures,
                self.see(self.teacher, self.spec("teacher, few", self.teacher, few)).measures,
                self.see(student, self.spec("student", student, few)).measures,
            )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What decides a result besides the weights of student and teacher."""
        steps, w = self.full
        return {
            "split": "test", "prompts": len(self.prompts), "seeds": list(self.seeds),
            "teacher": {"steps": steps, "guidance": w}, "engine": self.base.engine,
            "world": common.rules(self.world),
        }  # fmt: skip

    def run_of(self, seed: int) -> Job:
        """The run of the recipe itself."""
        return Job(Variant(name=DEFAULT), seed, self.base)

    def result_path(self, task: Task) -> Path:
        """Beside the weights that it is of, so that it goes where they go."""
        name = text_hash(json.dumps(self.facts()))
        if isinstance(task, Job):
            return task.directory(self.runs) / f"result-{name}.json"
        if task.seed is None:
            return self.runs / "student" / f"{task.name}-{name}.json"
        return self.run_of(task.seed).directory(self.runs) / f"{task.name}-{name}.json"

    def finished(self, task: Task) -> Path | None:
        """The task's result, if there is one; UserError where another configuration has made it."""
        path = self.result_path(task)
        if not path.exists():
            return None
        if isinstance(task, Job):
            check_config(path.parent, task.experiment)
        elif task.seed is not None:
            check_config(path.parent, self.run_of(task.seed).experiment)
        return path

    def judge(self, task: Task, references: References) -> Result:
        """UserError where a drawing is of an adapter that has not been trained."""
        minutes = 0.0
        match task:
            case Job():
                name, seed, how = task.variant.name, task.seed, ""
                family = self.load(str(task.directory(self.runs) / "model"))
                spec = self.spec(name, family, self.steps)
                minutes = training_minutes(read_metrics(task.directory(self.runs)))
            case Drawing():
                name, seed = task.name, task.seed
                family, how = self.drawing_model(task)
                spec = self.spec(name, family, self.steps, variety=task.variety)
                if seed is not None:
                    minutes = training_minutes(
                        read_metrics(self.run_of(seed).directory(self.runs))
                    )  # fmt: skip
            case _:
                assert_never(task)
        try:
            seen = self.see(family, spec, how)
        except FloatingPointError as error:
            return Result(name=name, seed=seed, minutes=minutes, calls=spec.calls,
                          failed=str(error))  # fmt: skip
        return Result(name=name, seed=seed, minutes=minutes, calls=spec.calls,
                      found=references.found(seen.measures))  # fmt: skip

    def drawing_model(self, task: Drawing) -> tuple[ZImage, str]:
        """The model of a drawing, and what its weights do not tell."""
        if task.seed is None:
            return self.student, ""
        job = self.run_of(task.seed)
        model = job.directory(self.runs) / "model"
        if not model.is_dir():
            raise UserError(
                f"the adapter of training seed {task.seed} is not there yet ({model}); train it "
                "with `python -m benchmarks.sda run seeds`, or seeds8 for the 8-step student"
            )
        check_config(model.parent, job.experiment)
        family, adapted = self.load(self.base.model), self.load(str(model))
        if task.gate is not None:
            grid = family.sigmas(self.steps)
            family.backbone = Gated(family.backbone, adapted.backbone, task.gate, grid)
            return family, f", first {task.gate} steps by {adapted.fingerprint()}"
        blend(family.pipeline.transformer, adapted.pipeline.transformer, task.strength)
        return family, ""


def check_config(directory: Path, experiment: Experiment) -> None:
    """UserError unless the run in this directory was made by this configuration."""
    lines = difference(read_experiment(directory), experiment)
    if lines := [line for line in lines if not line.startswith(WATCHED)]:
        raise UserError(
            f"the run {directory} had another configuration ({'; '.join(lines)}); set these "
            "fields again, or choose another --work"
        )
