"""How a trained student is judged: on prompts and seeds that all students and the teacher share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import common
from benchmarks.common import Roots, Seen
from benchmarks.study_plan import Job, View
from benchmarks.wrong_convention import PREFIX, WrongConvention
from safetensors.torch import load_file

from fewstep.cli.opening import read_experiment
from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.metrics import draws
from fewstep.experiment.codec import difference
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family
from fewstep.families.zimage import ZImage
from fewstep.hashing import text_hash
from fewstep.runs import read_metrics
from fewstep.sweep.score import training_seconds
from fewstep.train import checkpoint
from fewstep.worlds.shapes.world import Shapes

WATCHED = ("sampling.every", "sampling.prompts", "loop.log_every", "loop.checkpoint_every", "eval.")
"""Fields that decide what is seen of a run, not what comes out of it."""


@dataclass(frozen=True)
class Result:
    """One training run, judged."""

    variant: str
    seed: int
    minutes: float
    """Wall time of its training steps."""
    views: Mapping[str, Mapping[str, float]]
    """Metrics by view; empty where there was nothing to judge."""
    failed: str | None = None
    """Why there was nothing to judge."""


@dataclass(frozen=True)
class References:
    """What every student is held against, on the same prompts and seeds."""

    truth: Measures
    full: Measures
    few: Measures

    def values(self, m: Measures) -> dict[str, float]:
        """Every metric of an image set, with its share of the teacher's KID gap."""
        ones = np.ones((1, len(m.prompts)))
        of = {key: float(found[0]) for key, found in draws(m, self.truth, ones).items()}
        few, full = (float(draws(t, self.truth, ones)["kid"][0]) for t in (self.few, self.full))
        of["kid_gap_closed"] = (few - of["kid"]) / (few - full) if few > full else float("nan")
        return of


class Judge:
    """Draws and measures models on the study's prompts."""

    def __init__(self, args: argparse.Namespace, base: Experiment) -> None:
        self.args, self.base = args, base
        self.where: Roots = common.roots(args)
        self.world = Shapes()
        self.device = common.few_threads(args.threads)
        self.teacher = self.load(base.model)
        self.runs = self.where.work / "ladd" / self.teacher.fingerprint()[:8]
        """Runs of one teacher: a model that was trained anew keeps its name, not its weights."""
        self.prompts = tuple(dict.fromkeys(self.world.prompts("test", args.prompts)))
        self.seeds = tuple(range(args.seeds))

    def load(self, model: str) -> ZImage:
        return load_family(model, self.device, self.base.dtype, self.base.engine)

    def spec(self, name: str, family: ZImage, steps: int, w: float) -> GenerationSpec:
        return GenerationSpec(
            model=name, fingerprint=family.fingerprint(), prompts=self.prompts, seeds=self.seeds,
            sigmas=family.sigmas(steps), sampler=family.sampler, guidance=w,
            height=self.base.data.samples.height, width=self.base.data.samples.width,
        )  # fmt: skip

    def see(self, name: str, family: ZImage, steps: int, w: float = 1, how: str = "") -> Seen:
        return common.drawn(
            self.where.measured, family, self.spec(name, family, steps, w), self.world,
            engine=self.base.engine + how, batch=self.args.batch,
        )  # fmt: skip

    def references(self) -> References:
        """Teacher and truth; whichever process comes first measures them."""
        samples, few = self.base.data.samples, self.base.sampling.steps
        steps, w = self.base.eval.full(samples.steps, samples.guidance)
        folder = self.where.measured
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            full = self.see("teacher, full", self.teacher, steps, w)
            start = self.see("teacher, few", self.teacher, few)
            truth = common.true_pictures(folder, self.world, self.prompts, self.seeds)
        return References(truth, full.measures, start.measures)

    def facts(self) -> dict[str, Any]:
        return {
            "split": "test",
            "prompts": len(self.prompts),
            "seeds": list(self.seeds),
            "world": common.rules(self.world),
        }

    def finished(self, job: Job) -> Path | None:
        """The job's result, if there is one; UserError where another configuration has made it."""
        path = self.result_path(job)
        if not path.exists():
            return None
        lines = difference(read_experiment(path.parent), job.experiment)
        if lines := [line for line in lines if not line.startswith(WATCHED)]:
            raise UserError(
                f"the finished run {path.parent} had another configuration ({'; '.join(lines)}); "
                "--set these fields, or choose another --work"
            )
        return path

    def result_path(self, job: Job) -> Path:
        name = text_hash(json.dumps(self.facts()))
        return job.directory(self.runs) / f"result-{name}.json"

    def student(self, job: Job, view: View) -> Seen:
        """The pictures of one view of a finished run."""
        name = f"{job.variant.name}, seed {job.seed}, {view}"
        how = ", wrong convention" if view == "own" else ""
        return self.see(name, self.model(job, view), self.base.sampling.steps, how=how)

    def model(self, job: Job, view: View) -> ZImage:
        """One view of a finished run."""
        directory = job.directory(self.runs)
        # "raw" too takes its sampler from the exported directory
        family = self.load(str(directory / "model"))
        match view:
            case "student":
                pass
            case "own":
                family.backbone = WrongConvention(family.backbone)
            case "raw":
                found = checkpoint.newest(directory / "checkpoints", print)
                if found is None:
                    raise UserError(f"{directory} has no checkpoint to take the raw student from")
                weights = load_file(found / "module.student.safetensors")
                family.backbone.load_state_dict(
                    {key.removeprefix(PREFIX): w for key, w in weights.items()}
                )
        return family

    def judge(self, job: Job, references: References) -> Result:
        views: dict[str, dict[str, float]] = {}
        minutes = training_minutes(read_metrics(job.directory(self.runs)))
        names: list[View] = ["student", "raw", "own"] if job.variant.wrong else ["student", "raw"]
        for view in names:
            try:
                seen = self.student(job, view)
            except FloatingPointError as error:
                if view == "student":
                    return Result(job.variant.name, job.seed, minutes, {}, str(error))
                continue
            views[view] = references.values(seen.measures) | {"saturated": seen.saturated}
        return Result(job.variant.name, job.seed, minutes, views)


def training_minutes(rows: Sequence[Mapping[str, Any]]) -> float:
    """Wall time of the steps of a run, whatever it was interrupted by."""
    return training_seconds(rows) / 60


def write_result(path: Path, facts: Mapping[str, Any], result: Result) -> None:
    """The result with the facts of its judge; whole or not at all."""
    common.write_json(path, {**facts, **null(asdict(result))})


def null(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {k: null(v) for k, v in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def read_result(path: Path) -> Result:
    found = json.loads(path.read_bytes())
    views = {
        view: {k: float("nan") if v is None else v for k, v in metrics.items()}
        for view, metrics in found["views"].items()
    }
    return Result(found["variant"], found["seed"], found["minutes"], views, found["failed"])
