"""Studies of D-OPSD on Shapes: is a concept learnt from four pictures, and what else is lost?

    python -m benchmarks.dopsd plan methods                  what will be trained
    OMP_NUM_THREADS=1 python -m benchmarks.dopsd run teacher
    OMP_NUM_THREADS=1 python -m benchmarks.dopsd run methods --part 0/2
    OMP_NUM_THREADS=1 python -m benchmarks.dopsd run ablations --few --part 1/2 [--steps 60]
    python -m benchmarks.dopsd table methods

teacher      before any training: what the student draws of each concept beside its pictures
methods      D-OPSD, SFT with and without an assistant, DreamBooth, PSO and off-policy distillation
             at one budget: as many optimizer steps, and in each as many passes with a gradient
ablations    one change of D-OPSD at a time; each concept has one of the training seeds
two          a second concept on the model that has learnt a first one, by a word of its own; the
             tether's prompts as they are, and with the first's among them
stack        a concept's adapter with an SDA adapter (--sda FILE, of the same student) over both
             strengths
memory       of D-OPSD at 2 to 16 states and of its yardsticks, each in a fresh process

Six concepts (benchmarks/dopsd_concepts.py), three training seeds, four pictures each, which the
study writes as a folder with captions. The student is --student, a directory that is there: by
default that of `fewstep train ladd_shapes`. For SFT with an assistant that undoes the distillation
one is trained first. Runs lie in runs/studies/dopsd/STUDENT, results beside them; finished jobs are
skipped and an interrupted one goes on from its checkpoint, so the same command resumes; parts never
share a job. All studies share the runs of the recipe: do not run two at once before those are
there. The check of the teacher before each run is off, for "teacher" tells more.

`table` writes results/tables/dopsd_STUDY.json and docs/dopsd_STUDY.md, and, once every job is
there, the records of "teacher", "methods" and "memory".
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common, dopsd_simple, dopsd_stack
from benchmarks.dopsd_arms import Recipes, recipe_on
from benchmarks.dopsd_concepts import NOVEL, ROSTER, taught, write_folder, write_others
from benchmarks.dopsd_judge import Judge
from benchmarks.dopsd_plan import SEEDS, STUDIES, Task, plan
from benchmarks.dopsd_table import write_study
from benchmarks.sda import parsed, train_once
from benchmarks.study_judge import Result, training_minutes, write_result
from benchmarks.study_plan import changed
from rich.console import Console

from fewstep.cli import commands
from fewstep.errors import UserError
from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.runs import RunError, read_metrics, user_path
from fewstep.train.loop import NotFiniteError
from fewstep.worlds.shapes.world import Shapes

NEED_NO_RUN = ("teacher", "memory")


def recipes_of(args: argparse.Namespace) -> Recipes:
    """Recipes on the student of this study."""
    if not (user_path(args.student) / "model_index.json").is_file():
        raise UserError(
            f"there is no student in {args.student}: `fewstep train ladd_shapes` makes one, or "
            "name another with --student"
        )
    given = {"engine": args.engine, "threads": args.threads, "check.pictures": 0}
    own = parsed(args.set, "--set")
    return recipe_on(args.student, args.student_steps, args.steps, given | own,
                     parsed(args.set_dopsd, "--set-dopsd"))  # fmt: skip


def assistant_directory(args: argparse.Namespace) -> Path:
    """Of the assistant of the student in --student."""
    return args.work / "dopsd" / f"assistant_of_{user_path(args.student).parent.name}"


def tasks_of(args: argparse.Namespace, of: Recipes) -> list[Task]:
    file = str(assistant_directory(args) / "adapter.safetensors")
    if args.other_seeds is not None and STUDIES[args.study].spread:
        raise UserError(f"{args.study} has one training seed of each concept; --other-seeds is for "
                        "studies that have several")  # fmt: skip
    return plan(
        args.study, of, file, pictures_of(args), concepts=args.concepts, seeds=args.training_seeds,
        others=args.other_seeds,
    )  # fmt: skip


def pictures_of(args: argparse.Namespace) -> Path:
    return args.work / "dopsd" / "pictures"


def train_assistant(args: argparse.Namespace, of: Recipes, command: str, console: Console) -> int:
    """Train what undoes the student's distillation unless it is there; an exit code."""
    given = {"teacher": args.model} | parsed(args.assistant_set, "--assistant-set")
    experiment = changed(of("undistill_shapes"), given)
    return train_once(experiment, assistant_directory(args), command, console)


def done(judge: Judge, task: Task, command: str, console: Console) -> int:
    """Train, judge and write the result; an exit code."""
    out, experiment = task.directory(judge.runs), task.experiment(judge.runs)
    write_folder(judge.world, task.taught, task.pictures / task.folder)
    if task.held and task.first is not None:
        write_others(judge.world, task.first.taught, task.prompts)
    try:
        if code := commands.train(experiment, out, command, console):
            return code
        result = judge.judge(task)
    except (NotFiniteError, FloatingPointError) as error:
        minutes = training_minutes(read_metrics(out))
        result = Result(task.name, task.seed, minutes, {}, str(error))
    write_result(judge.result_path(task), judge.facts(), result)
    return 0


def run(args: argparse.Namespace, command: str, console: Console) -> int:
    """This part of the jobs; an exit code."""
    of = recipes_of(args)
    tasks, judge = tasks_of(args, of), Judge(args, of("dopsd_shapes"))
    index, count = args.part
    own = tasks[index::count]
    for i, task in enumerate(own):
        if judge.finished(task):
            continue
        if task.first is not None and not judge.finished(task.first):
            console.print(f"{task.name}, training seed {task.seed} waits for {task.first.name}")
            continue
        console.print(f"job {i + 1} of {len(own)}: {task.name}, training seed {task.seed}")
        helped = task.arm.base.assistant is not None
        if helped and (code := train_assistant(args, of, command, console)):
            return code
        if code := done(judge, task, command, console):
            return code
    left = sum(judge.finished(task) is None for task in own)
    console.print(f"{left} jobs wait for another part: run this again" if left else
                  f"all {len(own)} jobs of this part are done")  # fmt: skip
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="D-OPSD studies on Shapes.")
    found.add_argument("verb", choices=("plan", "run", "table"))
    found.add_argument("study", choices=(*STUDIES, *NEED_NO_RUN))
    common.add_common(found)
    found.set_defaults(engine="fused", prompts=64, seeds=4)
    found.add_argument("--part", type=common.part, default=(0, 1), help="i/n: every n-th job")
    found.add_argument("--steps", type=int, help="steps of each training")
    found.add_argument("--training-seeds", type=int, default=SEEDS)
    found.add_argument("--other-seeds", type=int,
                       help="training seeds of all arms but the recipe, if fewer")  # fmt: skip
    found.add_argument("--novel", type=int, default=NOVEL, help="novel prompts of each concept")
    found.add_argument("--few", action="store_true",
                       help="judge at the student's own steps alone, not at 30 too")  # fmt: skip
    found.add_argument("--concepts", nargs="+", default=(), choices=tuple(ROSTER), metavar="NAME")
    found.add_argument("--student", default="runs/ladd_shapes/model", help="a model directory")
    found.add_argument("--student-steps", type=int, default=4)
    found.add_argument("--sda", type=Path, help="an SDA adapter of this student")
    found.add_argument("--set", nargs="+", default=[], help="field=value of all recipes")
    found.add_argument("--set-dopsd", nargs="+", default=[], help="the same of dopsd_shapes alone")
    found.add_argument("--assistant-set", nargs="+", default=[], help="the same of the assistant")
    return found


def table(args: argparse.Namespace, command: str, console: Console) -> int:
    of = recipes_of(args)
    tasks, judge = tasks_of(args, of), Judge(args, of("dopsd_shapes"))
    if args.study != "stack":
        return write_study(args.study, tasks, judge, command, console)
    if args.sda is None:
        raise UserError("the study stack needs --sda FILE, an SDA adapter of the same student")
    return dopsd_stack.write(judge, tasks, args.sda, command, console)


def simple(args: argparse.Namespace, command: str, console: Console) -> int:
    """The studies that train nothing: both verbs draw or measure what is missing."""
    of = recipes_of(args)
    concepts = taught(Shapes(), args.concepts or tuple(ROSTER))
    if args.study == "teacher":
        return dopsd_simple.teacher(Judge(args, of("dopsd_shapes")), concepts, command, console)
    folder = write_folder(Shapes(), concepts[0], pictures_of(args) / concepts[0].name)
    return dopsd_simple.memory(args, of, folder, command, console)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(words)
    console = Console(highlight=False, soft_wrap=True)
    command = f"python -m benchmarks.dopsd {shlex.join(words)}"
    try:
        if args.prompts < MIN_PROMPTS or args.seeds < 2 or args.novel < 2:
            raise UserError(
                f"KID needs --prompts of at least {MIN_PROMPTS}, layouts --seeds and --novel of at "
                f"least 2, got {args.prompts}, {args.seeds} and {args.novel}"
            )
        if args.novel > NOVEL:
            raise UserError(
                f"--novel must be at most {NOVEL}, got {args.novel}: trainings may use the prompts "
                "after these"
            )
        if args.study in NEED_NO_RUN and args.verb != "plan":
            return simple(args, command, console)
        match args.verb:
            case "plan":
                return show(args, console)
            case "run":
                return run(args, command, console)
            case _:
                return table(args, command, console)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def show(args: argparse.Namespace, console: Console) -> int:
    """The jobs of this part."""
    if args.study in NEED_NO_RUN:
        console.print(f"{args.study} trains nothing")
        return 0
    index, count = args.part
    for task in tasks_of(args, recipes_of(args))[index::count]:
        what: Any = f"{task.arm.question}: {task.arm.level}" if task.arm.level else "the recipe"
        console.print(f"{task.name}, training seed {task.seed}  {what}", markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
