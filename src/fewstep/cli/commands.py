"""`fewstep train`, once its options are read. Every function returns an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from fewstep.cli import INTERRUPTED
from fewstep.cli.examining import look_first
from fewstep.cli.exporting import all_written, kept_best, kept_healthy, of_healthy, write_all
from fewstep.cli.opening import check_same, open_run
from fewstep.cli.planning import expected
from fewstep.cli.sampling import check_folder
from fewstep.data.folder_report import brief
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.experiment.builder import Built, build, prepare
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import Experiment
from fewstep.experiment.export import Trained
from fewstep.experiment.folders import find_folders
from fewstep.experiment.kept import kept
from fewstep.experiment.models import choose_device, make_world, model_path, slow_numbers
from fewstep.experiment.offline import restored
from fewstep.experiment.outline import outline
from fewstep.experiment.prompts import check_prompts, cut_off
from fewstep.experiment.retention import of_best, outside_prompts
from fewstep.experiment.sharding import divided
from fewstep.experiment.teacher_check import ensure_teacher
from fewstep.experiment.trees import file_of
from fewstep.families.adapter_files import open_file
from fewstep.hashing import text_hash
from fewstep.runs import Follower, check_new
from fewstep.train.commit import name_of
from fewstep.train.loop import train as run_loop
from fewstep.train.progress import ProgressLines
from fewstep.train.ranks import Ranks, started
from fewstep.train.signals import stop_requests
from fewstep.train.start import Start
from fewstep.train.viewers import ViewerName, watching

Make = Callable[[Experiment, Path, Told], Built]
"""What turns a configuration into a run: `build`, or a study's variant of it."""


def describe(experiment: Experiment, out: Path, console: Console) -> int:
    """--dry-run: the resolved configuration, held against files and model; no weights loaded."""
    console.print(to_yaml(experiment), end="")
    check_folder(out)
    device = choose_device(experiment)
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
        for line in cut_off(experiment, world, family):
            console.print(f"# warning: {line}")
        for line in find_folders(experiment, family).lines():
            console.print(f"# {line}")
    for line in slow_numbers(experiment, device):
        console.print(f"# warning: {line}")
    if experiment.checks_teacher():
        console.print(
            f"# would look at the teacher first: {experiment.check.pictures} pictures in context "
            "and as many without"
        )
    if every := experiment.retention.every:
        n = len(outside_prompts(experiment, world))
        console.print(f"# would look at {n} prompts outside of the concept every {every} steps")
    if every := experiment.watch.every:
        n = experiment.watch.prompts * experiment.watch.seeds
        console.print(f"# would look at the run's health every {every} steps: {n} pictures")
    if (out / "config.yaml").is_file():
        check_same(out, experiment)
        console.print(f"# would go on with the run {out}")
    else:
        check_new(out)
        console.print(f"# would start a run in {out}")
    for line in expected(experiment):
        console.print(f"# {line}")
    return 0


def train(
    experiment: Experiment, out: Path, command: str, console: Console, make: Make = build,
    *, force: bool = False, track: ViewerName | None = None,
) -> int:  # fmt: skip
    """Train or go on training, then write the student as a model directory in the run; `force`
    does so by a teacher that fails its check, and `track` is a viewer of its metrics. Under
    torchrun by all of its processes."""
    with started(experiment.device, sharded=experiment.sharding.on) as ranks:
        if ranks.count > 1:
            if make is not build:
                raise UserError("this study trains in one process; start it without torchrun")
            with stop_requests(patient=True) as asked:
                start = Start(ranks, asked)
                with start.together():
                    return train_together(
                        experiment, out, command, console, start, force=force, track=track
                    )
        return train_alone(
            experiment, out, command, console, make, Start(ranks), force=force, track=track
        )


def train_together(
    experiment: Experiment, out: Path, command: str, console: Console, start: Start, *, force: bool,
    track: ViewerName | None,
) -> int:  # fmt: skip
    """By several processes: the first draws samples, and does all that is written."""
    if experiment.retention.every:
        raise UserError(
            f"retention.every is {experiment.retention.every}, but a gauge looks with one process "
            "alone; set it to 0, or start one process"
        )
    make = partial(build, processes=start.ranks.count)
    if start.ranks.first:
        return train_alone(experiment, out, command, console, make, start, force=force, track=track)
    start.meet()  # the first has drawn what samples there were to draw
    built = make(experiment, out, start.listening(quiet))
    start.meet()  # and has opened the run
    built = divided(built, experiment, agreed(start, experiment, built))
    built.rest(experiment)
    outcome = run_loop(
        built.method, built.batches, experiment.loop, Follower(out), built.optims, built.hooks,
        seed=experiment.seed, device=built.device, console=Console(quiet=True),
        watch=built.watch, ranks=start.ranks, stopping=start.asked, frozen=built.frozen,
        after_first=built.after_first,
    )  # fmt: skip
    return 0 if outcome.finished else INTERRUPTED


def agreed(start: Start, experiment: Experiment, built: Built) -> Ranks:
    """The processes, once all have found the same to train; RunError where they have not."""
    ranks = start.ranks
    ranks.agree("configuration", text_hash(to_yaml(experiment)))
    ranks.agree("model", built.family.fingerprint())
    ranks.agree("set of samples", text_hash(json.dumps(built.samples_key, sort_keys=True)))
    start.end()
    return ranks


def train_alone(
    experiment: Experiment, out: Path, command: str, console: Console, make: Make, start: Start,
    *, force: bool, track: ViewerName | None,
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
        built = make(experiment, out, start.listening(told))
    start.meet()
    for text in built.notes:
        console.print(f"warning: {text}")
    for found in built.data_report.values():
        for line in brief(found):
            console.print(line)
    if (parts := len(built.batches(0))) < start.ranks.count:
        console.print(
            f"warning: a step has {parts} micro-batches for {start.ranks.count} processes; set "
            "data.micro_batch lower, or start fewer"
        )
    with open_run(out, experiment, built, command) as run, watching(run, track, console):
        if built.check is not None:
            ensure_teacher(built.check, run, force, console)
        start.meet()
        built = divided(built, experiment, agreed(start, experiment, built))
        built.rest(experiment)
        models = [family.backbone for family in (built.family, built.teacher)]
        console.print(kept(experiment, built.method, built.optims, models))
        # a study's variant may be ill on purpose; several share the work, and weights with it
        if make is build and not start.ranks.sharded:
            look_first(experiment, built, run, command, console)
        outcome = run_loop(
            built.method, built.batches, experiment.loop, run, built.optims, built.hooks,
            seed=experiment.seed, device=built.device, console=console, gauge=built.gauge,
            watch=built.watch, ranks=start.ranks, stopping=start.asked, frozen=built.frozen,
            after_first=built.after_first,
        )  # fmt: skip
        if built.recomputed is not None:
            console.print(f"{built.recomputed.again} blocks were computed again on the way back")
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
        elif outcome.weights is not None:
            experiment = of_healthy(outcome.weights, run, experiment)
            console.print(f"writing the weights of step {outcome.weights}, the last healthy")
        trained: Trained = built
        packed = experiment.adapter is not None and experiment.frozen != "dtype"
        if (start.ranks.sharded or packed) and not all_written(out, experiment):
            # nobody has the whole: its parts lie in the checkpoint, or its base in the directory
            last = run.checkpoints / name_of(outcome.step)
            taken = kept_best(run, experiment) or kept_healthy(run, experiment)
            trained = restored(experiment, taken or last)
        write_all(trained, experiment, out, out.name, experiment.loop.steps, console)
    return 0
