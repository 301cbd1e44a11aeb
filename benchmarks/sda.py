"""Studies of SDA on Shapes: how much diversity an adapter gives back, and what that costs.

    python -m benchmarks.sda plan ablations                  what will be trained or drawn
    OMP_NUM_THREADS=1 python -m benchmarks.sda run seeds --part 0/2
    OMP_NUM_THREADS=1 python -m benchmarks.sda run ablations --part 1/2 [--steps 100]
    python -m benchmarks.sda table ablations [--steps 100]

seeds, seeds8     training seeds of the adapter of the student of 4 and of 8 steps
ablations         one change of the recipe at a time, on the student of 8 steps
yardsticks        what needs no training, beside the adapter of training seed 0
strengths         adapters at other strengths, and in the first steps alone

`run` first trains the student, by a recipe that makes it narrow (runs/studies/sda/studentN_SEED),
unless --student names one that is there, and for some ablations an assistant of it. Then it trains
each job as `fewstep train` does, judges it on test prompts that all jobs share and writes a result
beside the run, in runs/studies/sda/STUDENT. Finished jobs are skipped and an interrupted one goes
on from its checkpoint, so the same command resumes; parts never share a job. "ablations" uses runs
of "seeds8" as its default: do not run the two at once before those are there. "yardsticks" and
"strengths" train nothing but the student, and want the runs of "seeds8" (of "seeds" on 4 steps).

`table` writes results/tables/sda_STUDY.json, docs/sda_STUDY.md, docs/figures/sda_STUDY.png, and,
once every job is there, a grid of pictures and the records that the study is for. Make the table of
"seeds" before that of "seeds8", whose records tell the figures of 4 steps beside their own.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks import common
from benchmarks.sda_judge import Judge, References, check_config
from benchmarks.sda_plan import STUDENTS, STUDIES, Bench, Task, plan, recipe
from benchmarks.sda_results import Result, write_result
from benchmarks.sda_table import write_study
from benchmarks.study_judge import training_minutes
from benchmarks.study_plan import Job, changed
from rich.console import Console

from fewstep.cli import commands
from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.experiment.config import Experiment
from fewstep.runs import RunError, read_metrics
from fewstep.train.loop import NotFiniteError


def student_directory(args: argparse.Namespace, on: str) -> Path:
    return args.work / "sda" / f"student{on}_{args.student_seed}"


def train_student(args: argparse.Namespace, on: str, command: str, console: Console) -> int:
    """Train the narrow student unless it is there; an exit code. Processes take turns."""
    narrow, _, _ = STUDENTS[on]
    given = {**shared(args), "model": args.model, "seed": args.student_seed}
    experiment = changed(recipe(narrow), given | parsed(args.student_set, "--student-set"))
    return train_once(experiment, student_directory(args, on), command, console)


def assistant_directory(args: argparse.Namespace, model: str) -> Path:
    """Of the assistant of the student in this directory."""
    return args.work / "sda" / f"assistant_of_{Path(model).parent.name}"


def train_assistant(
    args: argparse.Namespace, bench: Bench, command: str, console: Console
) -> int:  # fmt: skip
    """Train what undoes the distillation of a student unless it is there; an exit code."""
    _, _, name = STUDENTS[bench.on]
    given = {**shared(args), "model": bench.base.model, "teacher": args.model}
    experiment = changed(recipe(name), given | parsed(args.assistant_set, "--assistant-set"))
    return train_once(experiment, assistant_directory(args, bench.base.model), command, console)


def train_once(experiment: Experiment, out: Path, command: str, console: Console) -> int:
    with alone(out.parent):
        if (out / "model").is_dir():
            check_config(out, experiment)
            return 0
        return commands.train(experiment, out, command, console)


def shared(args: argparse.Namespace) -> dict[str, Any]:
    return {"engine": args.engine, "threads": args.threads}


def parsed(words: Sequence[str], option: str) -> dict[str, Any]:
    """Fields and their values, from field=value."""
    found: dict[str, Any] = {}
    for text in words:
        key, equals, word = text.partition("=")
        if not equals:
            raise UserError(f"{option} takes field=value, got {text!r}")
        found[key] = yaml.safe_load(word)
    return found


def benches(args: argparse.Namespace) -> list[Bench]:
    """The study on each of its students."""
    students = tuple(args.on or STUDIES[args.study].students)
    if args.student and len(args.student) != len(students):
        raise UserError(
            f"{args.study} is on students of {' and '.join(students)} steps: give --student one "
            f"directory for each, or name fewer with --on; got {len(args.student)}"
        )
    if args.prompts < MIN_PROMPTS or args.seeds < 2:
        raise UserError(
            f"KID needs --prompts of at least {MIN_PROMPTS} and diversity --seeds of at least 2, "
            f"got {args.prompts} x {args.seeds}"
        )
    models = args.student or [str(student_directory(args, on) / "model") for on in students]
    found: list[Bench] = []
    for on, model in zip(students, models, strict=True):
        _, name, _ = STUDENTS[on]
        given = {**shared(args), "model": model, "teacher": args.model}
        base = changed(recipe(name), given | parsed(args.set, "--set"))
        assistant = str(assistant_directory(args, model) / "adapter.safetensors")
        found.append(plan(args.study, on, base, assistant, args.steps, args.training_seeds))
    return found


def done(judge: Judge, task: Task, references: References, command: str, console: Console) -> int:
    """Train where the task is to be trained, judge it and write its result; an exit code."""
    path = judge.result_path(task)
    try:
        if isinstance(task, Job):
            out = task.directory(judge.runs)
            if code := commands.train(task.experiment, out, command, console):
                return code
        result = judge.judge(task, references)
    except NotFiniteError as error:
        assert isinstance(task, Job)  # nothing else is trained
        result = Result(
            name=task.variant.name, seed=task.seed, calls=judge.steps, failed=str(error),
            minutes=training_minutes(read_metrics(path.parent)),
        )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_result(path, judge.facts(), result)
    return 0


def run(args: argparse.Namespace, command: str, console: Console) -> int:
    """This part of the jobs, student by student; an exit code."""
    total = 0
    for bench in benches(args):
        if not args.student and (code := train_student(args, bench.on, command, console)):
            return code
        judge, references = Judge(args, bench.base), None
        tasks = bench.share(args.part)
        total += len(tasks)
        for i, task in enumerate(tasks):
            if judge.finished(task):
                continue
            console.print(f"job {i + 1} of {len(tasks)} at {bench.on} steps: {named(task)}")
            helped = isinstance(task, Job) and task.experiment.assistant is not None
            if helped and (code := train_assistant(args, bench, command, console)):
                return code
            references = references or judge.references()
            if code := done(judge, task, references, command, console):
                return code
    console.print(f"all {total} jobs of this part are done")
    return 0


def named(task: Task) -> str:
    name = task.variant.name if isinstance(task, Job) else task.name
    return name if task.seed is None else f"{name}, training seed {task.seed}"


def changes(task: Task, base: Experiment) -> str:
    """What sets a task apart."""
    if isinstance(task, Job):
        return ", ".join(f"{key}={value}" for key, value in task.variant.overrides.items())
    return f"{task.question}: {task.level}"


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="SDA studies on Shapes.")
    found.add_argument("verb", choices=("plan", "run", "table"))
    found.add_argument("study", choices=tuple(STUDIES))
    common.add_common(found)
    found.set_defaults(engine="fused", prompts=64, seeds=16)
    found.add_argument("--part", type=common.part, default=(0, 1), help="i/n: every n-th job")
    found.add_argument("--steps", type=int, help="steps of an adapter's training")
    found.add_argument("--training-seeds", type=int)
    found.add_argument("--set", nargs="+", default=[], help="field=value of the adapter's recipe")
    found.add_argument("--on", nargs="+", choices=tuple(STUDENTS), help="students, by their steps")
    found.add_argument("--student", nargs="+", help="model directories that are trained already")
    found.add_argument("--student-seed", type=int, default=0)
    found.add_argument("--student-set", nargs="+", default=[], help="field=value of its recipe")
    found.add_argument("--assistant-set", nargs="+", default=[], help="the same of the assistant")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(words)
    console = Console(highlight=False, soft_wrap=True)
    command = f"python -m benchmarks.sda {shlex.join(words)}"
    try:
        match args.verb:
            case "plan":
                for bench in benches(args):
                    for task in bench.share(args.part):
                        console.print(f"{bench.on} steps: {named(task)}  "
                                      f"{changes(task, bench.base)}", markup=False)  # fmt: skip
                return 0
            case "run":
                return run(args, command, console)
            case _:
                judged = [(bench, Judge(args, bench.base)) for bench in benches(args)]
                return write_study(args.study, judged, command, console)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
