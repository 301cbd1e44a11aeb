"""Studies of LADD on Shapes: training seeds at full budget, ablations, the wrong convention.

    python -m benchmarks.studies plan ablations              what will be trained
    OMP_NUM_THREADS=1 python -m benchmarks.studies run seeds --part 0/2
    OMP_NUM_THREADS=1 python -m benchmarks.studies run ablations --part 1/2 [--steps 300]
    python -m benchmarks.studies table ablations [--steps 300]

`run` trains each job as `fewstep train` does (the wrong convention through its own build), judges
the exported student on test prompts that all jobs share, and writes result-*.json beside the run in
runs/studies/ladd/TEACHER. Finished jobs are skipped and an interrupted one goes on from its
checkpoint, so the same command resumes; parts never share a job. "convention" uses the runs of
"ablations" as its default: do not run the two at once before those are there. Teacher and truth are
measured once.

`table` writes results/tables/ladd_STUDY.json, docs/ladd_STUDY.md, docs/figures/ladd_STUDY.png, and,
once every job is there, the records that the study is for and a grid of pictures.

A step at batch 32 takes 0.6 to 0.9 s on one CPU thread with --engine compiled, depending on what
the other core does: 15 minutes a run of 1,200 steps, judged, and 4 of 300 steps; 12 with batch 1.
In all about 80 minutes for "seeds", 150 for "ablations", 12 more for "convention"; half of that in
two parts.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

import yaml
from benchmarks import common
from benchmarks.study_judge import Judge, References, Result, training_minutes, write_result
from benchmarks.study_plan import STUDIES, Job, changed, plan, share_of, unwatched
from benchmarks.study_table import write_study
from benchmarks.wrong_convention import build_wrong
from rich.console import Console

from fewstep.cli import commands
from fewstep.errors import UserError
from fewstep.experiment.builder import build
from fewstep.experiment.config import Experiment
from fewstep.recipes import RECIPES
from fewstep.runs import RunError, read_metrics
from fewstep.train.loop import NotFiniteError

RECIPE = "ladd_shapes"


def train(job: Job, judge: Judge, command: str, console: Console) -> int:
    out = job.directory(judge.runs)
    make = build_wrong if job.variant.wrong else build
    return commands.train(job.experiment, out, command, console, make)


def run(args: argparse.Namespace, command: str, console: Console) -> int:
    """Train and judge this part's jobs; an exit code."""
    study = plan(args.study, base_of(args), args.steps, args.training_seeds)
    judge = Judge(args, study.base)
    references: References | None = None
    jobs = share_of(study.jobs(), args.part)
    for i, job in enumerate(jobs):
        if judge.finished(job):
            continue
        path = judge.result_path(job)
        console.print(f"job {i + 1} of {len(jobs)}: {job.variant.name}, training seed {job.seed}")
        references = references or judge.references()
        try:
            if code := train(job, judge, command, console):
                return code
            result = judge.judge(job, references)
        except NotFiniteError as error:
            minutes = training_minutes(read_metrics(path.parent))
            result = Result(job.variant.name, job.seed, minutes, {}, str(error))
        write_result(path, judge.facts(), result)
    console.print(f"all {len(jobs)} jobs of this part are done")
    return 0


def base_of(args: argparse.Namespace) -> Experiment:
    """The recipe with the model, the engine and whatever else was given."""
    given = {"model": args.model, "engine": args.engine, "threads": args.threads}
    for text in args.set:
        key, equals, word = text.partition("=")
        if not equals:
            raise UserError(f"--set takes field=value, got {text!r}")
        given[key] = yaml.safe_load(word)
    return changed(unwatched(RECIPES[RECIPE]()), given)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="LADD studies on Shapes.")
    parser.add_argument("verb", choices=("plan", "run", "table"))
    parser.add_argument("study", choices=tuple(STUDIES))
    common.add_common(parser)
    parser.add_argument("--part", type=common.part, default=(0, 1), help="i/n: every n-th job")
    parser.add_argument("--steps", type=int, help="steps of the loop at the recipe's batch size")
    parser.add_argument("--training-seeds", type=int)
    parser.add_argument("--set", nargs="+", default=[], help="field=value of the recipe")
    args = parser.parse_args(words)
    console = Console(highlight=False, soft_wrap=True)
    command = f"python -m benchmarks.studies {shlex.join(words)}"
    try:
        match args.verb:
            case "plan":
                study = plan(args.study, base_of(args), args.steps, args.training_seeds)
                for job in share_of(study.jobs(), args.part):
                    changes = ", ".join(f"{k}={v}" for k, v in job.variant.overrides.items())
                    console.print(f"{job.variant.name} seed {job.seed}  {changes}", markup=False)
                return 0
            case "run":
                return run(args, command, console)
            case _:
                study = plan(args.study, base_of(args), args.steps, args.training_seeds)
                return write_study(study, Judge(args, study.base), command, console)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
