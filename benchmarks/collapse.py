"""Runs that are made to collapse, and what the watch over them sees: when, and against KID.

    OMP_NUM_THREADS=1 python -m benchmarks.collapse run [--part 0/2] [--seeds 3]
    python -m benchmarks.collapse table

`run` trains `ladd_shapes_demo` for 120 steps (the heads alone for 20) with each fault of `FAULTS`
and without one, for every training seed, under a watch that looks every --every steps and only
records; at the same steps it draws --prompts x 2 pictures of the exported student for KID against
the truth. Some six minutes of one core each. Where going back can help
it trains again with the policy of the recipe. Finished jobs are skipped and an interrupted one is
done again, so the same command resumes; parts share no job.

`table` writes docs/collapse.md and the records watch.collapse_detection_steps,
watch.rollback_kid_change and watch.probe_overhead. "KID shows it" at the first look from which on
KID is above that of the model before training, the interval of the paired difference above zero,
in two looks one after the other.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import common
from benchmarks.collapse_faults import FAULTS, Fault, built_of
from benchmarks.collapse_table import page, records
from benchmarks.study_plan import changed
from rich.console import Console

from fewstep import claims
from fewstep.evaluate.fidelity import kid
from fewstep.evaluate.generate import GenerationSpec, generate
from fewstep.evaluate.kernels import prompt_kernels
from fewstep.evaluate.statistics import prompt_weights
from fewstep.experiment.builder import Built
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import Experiment
from fewstep.families.base import Backbone
from fewstep.recipes import RECIPES
from fewstep.runs import Run
from fewstep.train.alarms import Policy
from fewstep.train.loop import every, train
from fewstep.worlds.shapes.world import Shapes

RECIPE = "ladd_shapes_demo"
SHORT = {"loop.steps": 120, "method.heads_first": 20, "optim.student.warmup": 20}
PICTURES = 2
"""Of each prompt, for KID."""


@dataclass(frozen=True, kw_only=True)
class Job:
    fault: Fault
    seed: int
    back: bool
    """Whether alarms are followed as the recipe has it, or only recorded."""

    @property
    def name(self) -> str:
        words = f"{self.fault.name} {'goes back' if self.back else 'recorded'} {self.seed}"
        return words.replace(" ", "_")


def jobs(seeds: int) -> list[Job]:
    """Seeds outside, so that all of the first are there first."""
    return [
        Job(fault=fault, seed=seed, back=back)
        for seed in range(seeds)
        for fault in FAULTS
        for back in ((False, True) if fault.curable else (False,))
    ]


def experiment_of(job: Job, args: argparse.Namespace) -> Experiment:
    found = changed(RECIPES[RECIPE](), {
        **SHORT, "seed": job.seed, "engine": args.engine, "watch.every": args.every,
        "loop.checkpoint_every": args.every, "sampling.every": 10**6, **job.fault.changes,
    })  # fmt: skip
    if job.back:
        return found
    return replace(found, watch=replace(found.watch, policy=Policy()))


class Kid:
    """Pictures of the exported student at every look, as features beside the truth's."""

    def __init__(self, built: Built, experiment: Experiment, prompts: int) -> None:
        self.world, self.built = Shapes(), built
        self.prompts = tuple(dict.fromkeys(self.world.prompts("test", prompts)))
        sampling = experiment.sampling
        self.spec = GenerationSpec(
            model="student", fingerprint="", prompts=self.prompts, seeds=tuple(range(PICTURES)),
            sigmas=built.family.sigmas(sampling.steps), sampler=sampling.sampler,
        )  # fmt: skip
        self.index = np.repeat(np.arange(len(self.prompts)), PICTURES)
        asked = [prompt for prompt in self.prompts for _ in range(PICTURES)]
        seeds = [*range(PICTURES)] * len(self.prompts)
        self.truth = self.world.features(self.world.truth(asked, seeds))
        self.weights = prompt_weights(len(self.prompts), np.random.default_rng(0))
        self.draws: dict[int, np.ndarray] = {}

    def __call__(self, step: int) -> None:
        exported = self.built.method.exported()
        assert isinstance(exported, Backbone)
        features = self.world.features(generate(self.built.family, exported, self.spec))
        kernels = prompt_kernels(features, self.index, self.truth, self.index)
        self.draws[step] = kid(kernels, self.weights)

    def rows(self) -> list[dict[str, float | None]]:
        """KID at each look, and how much it is above that of the start, with its interval."""
        start, found = self.draws[0], list[dict[str, float | None]]()
        for step, own in self.draws.items():
            low, high = np.nanpercentile((own - start)[1:], [2.5, 97.5])
            numbers = {"kid": own[0], "more": own[0] - start[0], "low": low, "high": high}
            known = {k: float(v) if math.isfinite(v) else None for k, v in numbers.items()}
            found.append({"step": step, **known})
        return found


def timed(call: Callable[..., Any], took: list[float]) -> Callable[..., Any]:
    def measured(*args: Any, **named: Any) -> Any:
        start = time.monotonic()
        try:
            return call(*args, **named)
        finally:
            took.append(time.monotonic() - start)

    return measured


def done(job: Job, args: argparse.Namespace) -> dict[str, Any]:
    """Train, with a look and KID every so many steps."""
    experiment = experiment_of(job, args)
    directory = args.work / "collapse" / f"{job.name}_{time.time_ns()}"
    with job.fault.planted():
        built = built_of(job.fault, experiment, directory)
        assert built.watch is not None
        score, took = Kid(built, experiment, args.prompts), list[float]()
        looked = timed(built.watch.look, took)
        built.watch.look = looked  # type: ignore[method-assign]
        with Run.create(directory, to_yaml(experiment)) as run:
            outcome = train(
                built.method, built.batches, experiment.loop, run, built.optims,
                [every(args.every, score, at_start=True)], seed=job.seed,
                console=Console(), watch=built.watch, frozen=built.frozen,
            )  # fmt: skip
            if not outcome.finished:  # somebody asked it to stop: it is done again
                raise KeyboardInterrupt
            rows = [row for row in run.metrics() if row["phase"] == "loop"]
    score(experiment.loop.steps)  # of the weights that the run ends with, wherever it went back to
    steps = np.diff([0, *(row["step"] for row in rows)])
    seconds = float(np.dot(steps, [row["seconds_per_step"] for row in rows]))
    course = json.loads((directory / "health.json").read_bytes())
    return {
        "fault": job.fault.name, "seed": job.seed, "back": job.back, "why": outcome.why,
        "alarms": course["alarms"], "kid": score.rows(), "steps": experiment.loop.steps,
        "begins": experiment.method.heads_first,  # type: ignore[union-attr]
        "step_seconds": seconds / experiment.loop.steps,
        "look_seconds": sum(took[1:]) / max(1, len(took) - 1),
        "recipe_every": RECIPES[RECIPE]().watch.every,
    }  # fmt: skip


def path_of(job: Job, args: argparse.Namespace) -> Path:
    return args.work / "collapse" / f"{job.name}.json"


def run(args: argparse.Namespace) -> int:
    index, count = args.part
    own = jobs(args.seeds)[index::count]
    for i, job in enumerate(own):
        if path_of(job, args).is_file():
            continue
        print(f"job {i + 1} of {len(own)}: {job.name}", flush=True)
        common.write_json(path_of(job, args), done(job, args))
    print(f"all {len(own)} jobs of this part are done")
    return 0


def table(args: argparse.Namespace, command: str) -> int:
    paths = [path_of(job, args) for job in jobs(args.seeds)]
    if left := [path.stem for path in paths if not path.is_file()]:
        print(f"{len(left)} of {len(paths)} jobs are still to be run: {left[0]} and so on")
        return 1
    found: list[Mapping[str, Any]] = [json.loads(path.read_bytes()) for path in paths]
    made = common.facts(command, args.threads)
    print(f"wrote {claims.write(records(found, made), 'watch', args.results)}")
    page(args.docs / "collapse.md", command, found)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Runs that collapse, and when that is seen.")
    parser.add_argument("verb", choices=("run", "table"))
    common.add_common(parser)
    parser.set_defaults(engine="fused", prompts=64, seeds=3)
    parser.add_argument("--part", type=common.part, default=(0, 1), help="i/n: every n-th job")
    parser.add_argument("--every", type=int, default=10, help="steps between two looks")
    args = parser.parse_args(words)
    common.few_threads(args.threads)
    command = f"python -m benchmarks.collapse {shlex.join(words)}".strip()
    return run(args) if args.verb == "run" else table(args, command)


if __name__ == "__main__":
    raise SystemExit(main())
