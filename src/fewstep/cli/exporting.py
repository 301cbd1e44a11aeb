"""`fewstep export`, and the end of a run: what training has left, as files for others."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fewstep.cli.opening import read_experiment, started_on
from fewstep.cli.verbs import ExportRequest
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.export import Trained, export, export_adapter
from fewstep.experiment.offline import restored
from fewstep.experiment.retention import nothing_good
from fewstep.runs import Run
from fewstep.train import checkpoint
from fewstep.train.alarms import course
from fewstep.train.aside import BEST, healthy_name
from fewstep.train.commit import name_of, step_inside, step_of
from fewstep.train.gauge import RECORD, read_rows
from fewstep.train.retention import best, reason_to_stop
from fewstep.train.watch import look_of, read_looks

ADAPTER, MODEL = "adapter.safetensors", "model"


def export_run(request: ExportRequest, console: Console) -> int:
    """The model, and the adapter where one was trained, of a checkpoint."""
    experiment, folder = read_experiment(request.run), request.out or request.run
    written = (MODEL, ADAPTER) if experiment.adapter is not None else (MODEL,)
    if there := [name for name in written if (folder / name).exists()]:
        raise UserError(f"{folder / there[0]} is there already; choose another --out")
    with Run.open(request.run) as run:
        found = chosen(run, request.step, experiment, console)
        trained = restored(experiment, found)
        if started_on(request.run, "model") != trained.family.fingerprint():
            raise UserError(
                f"the run {request.run} was started on another model than {experiment.model} is "
                "now; bring it back"
            )
        console.print(f"exporting {found}")
        folder.mkdir(parents=True, exist_ok=True)
        write_all(trained, experiment, folder, run.directory.name, step_inside(found), console)
    return 0


def chosen(run: Run, step: int | None, experiment: Experiment, console: Console) -> Path:
    """The complete checkpoint of a step, or the one that the end of the run takes. UserError where
    there is none."""
    folder = run.checkpoints
    if step is None:
        taken = kept_best(run, experiment) or kept_healthy(run, experiment)
        return taken or newest(folder, console)
    found = folder / name_of(step)
    if not found.is_dir():
        steps = ", ".join(str(step_of(p)) for p in sorted(folder.glob("step_*")))
        raise UserError(f"there is no checkpoint of step {step} in {folder}; --step takes {steps}")
    return whole(found)


def newest(folder: Path, console: Console) -> Path:
    found = checkpoint.newest(folder, lambda text: console.print(f"warning: {text}"))
    if found is None:
        raise UserError(f"there is no checkpoint in {folder}; let `fewstep train` come to one")
    return found


def kept_best(run: Run, experiment: Experiment) -> Path | None:
    """The best checkpoint of a run with a gauge; None where the run takes its newest, or has not
    found a better one than its start yet. UserError where it never did."""
    cfg, rows = experiment.retention, read_rows(run.directory / RECORD)
    if cfg.export == "last" or not rows:
        return None
    step = best(rows, cfg).step
    if step > 0:
        found = whole(run.checkpoints / BEST)
        if step_inside(found) != step:
            raise UserError(
                f"{found} is of step {step_inside(found)}, but the best look was at step {step}; "
                "choose a --step"
            )
        return found
    if rows[-1].step >= experiment.loop.steps or reason_to_stop(rows, cfg) is not None:
        raise UserError(nothing_good(run, experiment))
    return None


def kept_healthy(run: Run, experiment: Experiment) -> Path | None:
    """The checkpoint whose weights a watch ended the run with; None where it did not. UserError
    where that is the start."""
    looks = [look_of(row) for row in read_looks(run.directory)]
    if not looks:
        return None
    loop = experiment.loop
    found = course(
        looks, experiment.watch, steps=loop.steps, checkpoint_every=loop.checkpoint_every
    )
    if found.stop is None or found.take is None:
        return None
    of_healthy(found.take, run, experiment)
    return whole(run.checkpoints / healthy_name(found.take))


def of_healthy(step: int, run: Run, experiment: Experiment) -> Experiment:
    """The experiment that ends with the weights of this step, for what is written of it. UserError
    where the student had not moved by then."""
    try:
        if step > 0:
            return replace(experiment, loop=replace(experiment.loop, steps=step))
    except ValueError:  # a run of so few steps ends before the student's first move
        pass
    raise UserError(
        f"the last healthy step of {run.directory} is {step} (see health.json), when its student "
        "had not moved, so there is nothing to write; start another run with a lower "
        "optim.student.lr"
    )


def whole(found: Path) -> Path:
    if (why := checkpoint.flaw(found)) is not None:
        raise UserError(f"the checkpoint {found} is not whole: {why}; choose a --step")
    return found


def all_written(folder: Path, experiment: Experiment) -> bool:
    adapter = experiment.adapter is None or (folder / ADAPTER).is_file()
    return adapter and (folder / MODEL).is_dir()


def write_all(
    trained: Trained, experiment: Experiment, folder: Path, recipe: str, step: int,
    console: Console,
) -> None:  # fmt: skip
    """What is not there yet: the adapter where one was trained, and the model."""
    adapter, model, word = folder / ADAPTER, folder / MODEL, "there is"
    if experiment.adapter is not None and not adapter.is_file():
        verdict = export_adapter(trained, experiment, adapter, recipe, step)
        console.print(
            f"wrote {adapter}: {verdict.modules} modules, read back by diffusers and by "
            f"ComfyUI's rules; see {adapter.name}.verdict.json"
        )
    if not model.is_dir():
        export(trained, experiment, model, step)
        word = "wrote"
    console.print(f"{word} {model}, an ordinary diffusers directory; try\n  " + shlex.join(
        ["fewstep", "sample", "--model", str(model), "--steps", str(experiment.sampling.steps),
         "--prompts", "..."]
    ))  # fmt: skip
