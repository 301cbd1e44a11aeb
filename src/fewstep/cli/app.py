"""The command line. Each verb says what it will do, works, and names what it wrote.

    fewstep recipes                            what can be run
    fewstep train ladd_shapes --loop.steps 100 --out runs/x
    fewstep train --config runs/x/config.yaml --out runs/y
    fewstep plan ladd_zimage                   memory, hours and room, before anything is loaded
    fewstep doctor ladd_zimage                 what is wrong with a pipeline, before training
    fewstep precompute ladd_shapes             its teacher samples, by as many workers as you start
    fewstep precompute verify DIR              every byte of them; `stats DIR` says what there is
    fewstep sweep ladd_shapes_demo --vary optim.student.lr=1e-5..1e-3:log --out runs/sweep
    fewstep export runs/x                      the model of the newest checkpoint, on the CPU
    fewstep sample --model runs/x/model --prompts "a red circle" --steps 4 --out pictures
    fewstep eval runs/x                        measure teacher and student against the truth
    fewstep eval shapes@20,w=2 runs/x --suite quick    any models, side by side
    fewstep report runs/x runs/y               one self-contained page
    fewstep prompts list.txt more.parquet      free of duplicates and leaks, sorted by kind, split
    fewstep demo                               all of it in minutes

`fewstep VERB --help` lists the options. Running a command again goes on where it was stopped. Exit
codes: 0 done, 1 the doctor has found a fault, 2 a mistake that the user can repair (one sentence on
stderr), 130 interrupted by Ctrl-C or SIGTERM, while training after a checkpoint.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import diffusers
import transformers
from rich.console import Console

from fewstep.cli import (
    INTERRUPTED,
    commands,
    curating,
    doctoring,
    exporting,
    looking,
    opening,
    planning,
    precomputing,
    sampling,
    sweeping,
)
from fewstep.cli.choosing import chosen, parse_train, split_name
from fewstep.cli.doctoring import DoctorDataRequest, DoctorModelRequest, DoctorRequest
from fewstep.cli.helping import DEMO, show_help
from fewstep.cli.options import asked, changed, parse
from fewstep.cli.planning import PlanRequest
from fewstep.cli.precomputing import PrecomputeRequest, StatsRequest, VerifyRequest
from fewstep.cli.sweeping import SweepRequest
from fewstep.cli.verbs import (
    EvalRequest,
    ExportRequest,
    NoOptions,
    PromptsRequest,
    ReportRequest,
    SampleRequest,
)
from fewstep.errors import UserError
from fewstep.experiment.codec import suggestion
from fewstep.recipes import RECIPES
from fewstep.runs import RunError, user_path
from fewstep.train.loop import NotFiniteError
from fewstep.train.signals import sigterm_is_ctrl_c

VERBS = (
    "recipes", "plan", "doctor", "train", "precompute", "sweep", "export", "sample", "eval",
    "report", "prompts", "demo",
)  # fmt: skip
HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for library in (diffusers, transformers):  # bars for loading five small files
        library.utils.logging.disable_progress_bar()
    try:
        with sigterm_is_ctrl_c():
            return dispatch(words)
    except (UserError, RunError, NotFiniteError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # a path or a disk, wherever it was met
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def dispatch(words: list[str]) -> int:
    if not words or words[0] in HELP:
        print(__doc__)
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise UserError(f"there is no command {verb!r}; {suggestion(verb, VERBS)}")
    if any(word in HELP for word in rest):
        return show_help(verb, rest[0])
    if verb not in ("train", "precompute") and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(f"torchrun is for train and precompute; start {verb} by itself")
    # A warning names what is wrong with a file; everything else is progress.
    # No markup: a path may hold brackets.
    console = Console(highlight=False, soft_wrap=True, markup=False)
    match verb:
        case "recipes":
            asked(NoOptions, rest, "fewstep recipes")
            return recipes(console)
        case "plan":
            return plan(rest, console)
        case "doctor":
            return doctor(rest, console)
        case "train":
            return train(rest, console)
        case "precompute":
            return precompute(rest, console)
        case "sweep":
            return sweep(rest, console)
        case "export":
            return exporting.export_run(asked(ExportRequest, rest, "fewstep export"), console)
        case "sample":
            return sampling.sample(asked(SampleRequest, rest, "fewstep sample"), console)
        case "eval":
            return evaluate(rest, console)
        case "report":
            return looking.report(asked(ReportRequest, rest, "fewstep report"), console)
        case "prompts":
            request = asked(PromptsRequest, rest, "fewstep prompts")
            return curating.prompts(request, shlex.join(["fewstep", *words]), console)
        case _:
            return demo(rest, console)


def recipes(console: Console) -> int:
    for name, recipe in RECIPES.items():
        paragraphs = [" ".join(p.split()) for p in (recipe.__doc__ or "").split("\n\n")]
        console.print(f"{name}\n  " + "\n  ".join(p for p in paragraphs if p))
    return 0


def plan(words: list[str], console: Console) -> int:
    name, rest = split_name(words)
    own, fields = parse(PlanRequest, rest, "fewstep plan")
    experiment, _ = chosen("plan", name, own.config, fields)
    return planning.plan(own, experiment, console)


def doctor(words: list[str], console: Console) -> int:
    """Of a recipe, as `train` takes it; of a model; of prompts or a folder of pictures."""
    name, rest = split_name(words)
    command, prog = shlex.join(["fewstep", "doctor", *words]), "fewstep doctor"
    if name is not None and name not in RECIPES:
        path = user_path(name)
        if name == "shapes" or (path / "model_index.json").is_file() or is_hub_id(name):
            request = asked(DoctorModelRequest, rest, prog)
            return doctoring.of_model(request, name, command, console)
        if path.exists():
            return doctoring.of_data(asked(DoctorDataRequest, rest, prog), path, command, console)
    own, fields = parse(DoctorRequest, rest, prog)
    experiment, label = chosen("doctor", name, own.config, fields)
    return doctoring.doctor(own, experiment, label, command, console)


def is_hub_id(name: str) -> bool:
    """owner/name, where nothing on this machine is called so, nor looks as if it were meant."""
    owner, _, rest = name.partition("/")
    path = user_path(name)
    meant = user_path(owner).is_dir() or path.suffix in (".txt", ".csv", ".tsv", ".jsonl")
    return bool(owner and rest) and "/" not in rest and owner[0] not in "./~" and not (
        path.exists() or meant
    )  # fmt: skip


def precompute(words: list[str], console: Console) -> int:
    match words:
        case ["verify", *rest]:
            request = asked(VerifyRequest, rest, "fewstep precompute verify")
            return precomputing.verify_samples(request, console)
        case ["stats", *rest]:
            asked_for = asked(StatsRequest, rest, "fewstep precompute stats")
            return precomputing.tell_stats(asked_for, console)
    name, rest = split_name(words)
    own, fields = parse(PrecomputeRequest, rest, "fewstep precompute")
    experiment, _ = chosen("precompute", name, own.config, fields)
    return precomputing.precompute(experiment, own, console)


def sweep(words: list[str], console: Console) -> int:
    name, rest = split_name(words)
    if sum(word.split("=")[0] == "--vary" for word in rest) > 1:
        raise UserError("--vary is there twice, and the last one would be heard alone: name all "
                        "fields behind one")  # fmt: skip
    own, fields = parse(SweepRequest, rest, "fewstep sweep")
    experiment, label = chosen("sweep", name, own.config, fields)
    return sweeping.sweep(own, experiment, label, shlex.join(["fewstep", "sweep", *words]), console)


def train(words: list[str], console: Console) -> int:
    command = "fewstep train " + shlex.join(words)
    wanted = parse_train(words)
    if wanted.dry_run:
        return commands.describe(wanted.experiment, wanted.out, console)
    return commands.train(
        wanted.experiment, wanted.out, command, console, force=wanted.force, track=wanted.track
    )


def one_run(words: list[str]) -> Path:
    if len(words) != 1 or words[0].startswith("-"):
        raise UserError("eval takes one run directory, fewstep eval runs/NAME, or a --suite")
    directory = Path(words[0])
    if not (directory / "config.yaml").is_file():
        raise UserError(
            f"{directory} holds no run: there is no config.yaml in it; name a --suite to measure "
            "models"
        )
    return directory


def evaluate(words: list[str], console: Console) -> int:
    """Models by a suite; or a run, measured by its own configuration or as --eval.* options say."""
    command = shlex.join(["fewstep", "eval", *words])
    if any(word.split("=")[0] == "--suite" for word in words):
        request = asked(EvalRequest, words, "fewstep eval")
        return looking.evaluate_models(request, command, console)
    directory, rest = one_run(words[:1]), words[1:]
    experiment = opening.read_experiment(directory)
    asked_for = changed(experiment, rest, "fewstep eval")
    if replace(asked_for, eval=experiment.eval) != experiment:
        raise UserError("eval changes nothing but --eval.* options; see `fewstep eval --help`")
    return looking.evaluate(directory, asked_for, command, console)


def demo(words: list[str], console: Console) -> int:
    """Distil, measure and report in one go; takes the options of `train ladd_shapes_demo`."""
    command = shlex.join(["fewstep", "demo", *words])
    wanted = parse_train([DEMO, *words])
    if wanted.dry_run:
        return commands.describe(wanted.experiment, wanted.out, console)
    return (
        commands.train(wanted.experiment, wanted.out, command, console, track=wanted.track)
        or evaluate([str(wanted.out)], console)
        or looking.report(ReportRequest(runs=(wanted.out,)), console)
    )
