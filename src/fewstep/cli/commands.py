"""What each verb does, once its options are read. Every function returns an exit code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from fewstep.cli import INTERRUPTED
from fewstep.cli.evaluation import evaluate_run
from fewstep.cli.exporting import MODEL, write_all
from fewstep.cli.figures import show
from fewstep.cli.opening import check_same, open_run
from fewstep.cli.sampling import check_folder, telling
from fewstep.cli.suite import evaluate_models as judge_models
from fewstep.cli.verbs import EvalRequest, ReportRequest
from fewstep.data.folder_report import brief
from fewstep.data.told import Told
from fewstep.errors import UserError
from fewstep.experiment.builder import Built, build, prepare
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import Experiment
from fewstep.experiment.export import Trained
from fewstep.experiment.folders import find_folders
from fewstep.experiment.models import choose_device, make_world, model_path
from fewstep.experiment.offline import restored
from fewstep.experiment.outline import outline
from fewstep.experiment.prompts import check_prompts
from fewstep.experiment.retention import of_best, outside_prompts
from fewstep.experiment.sharding import divided
from fewstep.experiment.teacher_check import ensure_teacher
from fewstep.experiment.trees import file_of
from fewstep.families.adapter_files import open_file
from fewstep.hashing import text_hash
from fewstep.runs import Follower, Run, check_new
from fewstep.train.commit import name_of
from fewstep.train.loop import train as run_loop
from fewstep.train.progress import ProgressLines
from fewstep.train.ranks import Ranks, started

Make = Callable[[Experiment, Path, Told], Built]
"""What turns a configuration into a run: `build`, or a study's variant of it."""


def describe(experiment: Experiment, out: Path, console: Console) -> int:
    """--dry-run: the resolved configuration, held against files and model; no weights loaded."""
    console.print(to_yaml(experiment), end="")
    check_folder(out)
    choose_device(experiment)
    world = make_world(experiment)
    models = {"model": experiment.model, "teacher": experiment.teacher or experiment.model}
    paths = {key: Path(model_path(text)) for key, text in models.items()}
    absent = [key for key, path in paths.items() if not path.exists()]
    for key in absent:
        if paths[key].is_absolute() or str(paths[key]).count("/") != 1:
            raise UserError(f"{key} {models[key]!r} does not exist")
    if absent:
        check_prompts(experiment, world)
        if experiment.assistant is not None:
            open_file(file_of(experiment.assistant, "assistant"))
        for path in dict.fromkeys(paths[key] for key in absent):
            console.print(f"# would fetch {path}, which is not checked before")
    else:
        family, teacher = (outline(path) for path in paths.values())
        prepare(experiment, family, teacher, world, torch.device("meta"))
        for line in find_folders(experiment, family).lines():
            console.print(f"# {line}")
    if experiment.checks_teacher():
        console.print(
            f"# would look at the teacher first: {experiment.check.pictures} pictures in context "
            "and as many without"
        )
    if every := experiment.retention.every:
        n = len(outside_prompts(experiment, world))
        console.print(f"# would look at {n} prompts outside of the concept every {every} steps")
    if (out / "config.yaml").is_file():
        check_same(out, experiment)
        console.print(f"# would go on with the run {out}")
    else:
        check_new(out)
        console.print(f"# would start a run in {out}")
    return 0


def train(
    experiment: Experiment, out: Path, command: str, console: Console, make: Make = build,
    *, force: bool = False,
) -> int:  # fmt: skip
    """Train or go on training, then write the student as a model directory in the run; `force`
    does so by a teacher that fails its check. Under torchrun by all of its processes."""
    with started(experiment.device, sharded=experiment.sharding.on) as ranks:
        if ranks.count > 1:
            if make is not build:
                raise UserError("this study trains in one process; start it without torchrun")
            return train_together(experiment, out, command, console, ranks, force=force)
        return train_alone(experiment, out, command, console, make, ranks, force=force)


def train_together(
    experiment: Experiment, out: Path, command: str, console: Console, ranks: Ranks, *, force: bool
) -> int:
    """By several processes: the first draws samples, and does all that is written."""
    if experiment.retention.every:
        raise UserError(
            f"retention.every is {experiment.retention.every}, but a gauge looks with one process "
            "alone; set it to 0, or start one process"
        )
    make = partial(build, processes=ranks.count)
    if ranks.first:
        return train_alone(experiment, out, command, console, make, ranks, force=force)
    ranks.wait()  # the first has drawn what samples there were to draw
    built = make(experiment, out)
    ranks.wait()  # and has opened the run
    built = divided(built, experiment, agreed(ranks, experiment, built))
    outcome = run_loop(
        built.method, built.batches, experiment.loop, Follower(out), built.optims, built.hooks,
        seed=experiment.seed, device=built.device, console=Console(quiet=True), ranks=ranks,
    )  # fmt: skip
    return 0 if outcome.finished else INTERRUPTED


def agreed(ranks: Ranks, experiment: Experiment, built: Built) -> Ranks:
    """The same, once all have found the same to train; RunError where they have not."""
    ranks.agree("configuration", text_hash(to_yaml(experiment)))
    ranks.agree("model", built.family.fingerprint())
    ranks.agree("set of samples", text_hash(json.dumps(built.samples_key, sort_keys=True)))
    return ranks


def train_alone(
    experiment: Experiment, out: Path, command: str, console: Console, make: Make,
    ranks: Ranks, *, force: bool,
) -> int:  # fmt: skip
    """By one process, or by the first of several."""
    check_folder(out)
    if (out / "config.yaml").is_file():
        check_same(out, experiment)
    else:
        check_new(out)
    console.print(f"run {out}: {experiment.loop.steps} steps on {experiment.model}")
    # Before the run exists: a model that cannot be loaded should leave nothing behind.
    with ProgressLines(console) as told:
        built = make(experiment, out, told)
    ranks.wait()
    for text in built.notes:
        console.print(f"warning: {text}")
    for found in built.data_report.values():
        for line in brief(found):
            console.print(line)
    if (parts := len(built.batches(0))) < ranks.count:
        console.print(f"warning: a step has {parts} micro-batches for {ranks.count} processes; "
                      "set data.micro_batch lower, or start fewer")  # fmt: skip
    with open_run(out, experiment, built, command) as run:
        if built.check is not None:
            ensure_teacher(built.check, run, force, console)
        ranks.wait()
        built = divided(built, experiment, agreed(ranks, experiment, built))
        outcome = run_loop(
            built.method, built.batches, experiment.loop, run, built.optims, built.hooks,
            seed=experiment.seed, device=built.device, console=console, gauge=built.gauge,
            ranks=ranks,
        )  # fmt: skip
        if not outcome.finished:
            console.print(
                f"interrupted after step {outcome.step}, which is saved; the same command goes on"
            )
            return INTERRUPTED
        if outcome.why is not None:
            console.print(f"stopped after step {outcome.step}: {outcome.why}")
        if built.gauge is not None and experiment.retention.export == "best":
            experiment = of_best(built.gauge, run, experiment)
            console.print(f"writing the weights of step {experiment.loop.steps}, the best")
        trained: Trained = built
        if ranks.sharded and not (out / MODEL).is_dir():
            # nobody has the whole; the parts lie in the checkpoint
            trained = restored(experiment, run.checkpoints / name_of(outcome.step))
        write_all(trained, experiment, out, out.name, experiment.loop.steps, console)
    return 0


def evaluate(directory: Path, experiment: Experiment, command: str, console: Console) -> int:
    """Measure teacher and student of a finished run against the world's truth."""
    student = directory / "model"
    if not student.is_dir():
        raise UserError(
            f"{directory} has no model yet: let `fewstep train` finish, then evaluate again"
        )
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
    device = choose_device(experiment)
    with Run.open(directory), telling("pictures", console) as told:
        path = evaluate_run(experiment, directory, student, device, command, told)
    return shown(path.parent, console)


def evaluate_models(request: EvalRequest, command: str, console: Console) -> int:
    """Measure models by a suite."""
    with telling("pictures", console) as told:
        path = judge_models(request, command, told)
    return shown(path.parent, console)


def shown(directory: Path, console: Console) -> int:
    """The figures of an evaluation, and the command that makes its page."""
    show(directory, console)
    console.print("the page of it is made by\n  " + shlex.join(
        ["fewstep", "report", str(directory)]
    ))  # fmt: skip
    return 0


def report(request: ReportRequest, console: Console) -> int:
    """One page for runs and evaluations."""
    from fewstep.report.page import write_report  # matplotlib takes a second to import

    if not request.runs:
        raise UserError("report takes at least one directory: fewstep report runs/NAME")
    out = request.out
    if out is None:
        [*_, last] = request.runs
        out = last / "report.html" if len(request.runs) == 1 else Path("comparison.html")
    console.print(f"wrote {write_report(*request.runs, path=out)}")
    return 0
