"""The command line. Each verb says what it will do, works, and names what it wrote.

    fewstep recipes                            what can be run
    fewstep train ladd_shapes --loop.steps 100 --out runs/x
    fewstep train --config runs/x/config.yaml --out runs/y
    fewstep sample --model runs/x/model --prompts "a red circle" --steps 4 --out pictures
    fewstep eval runs/x                        measure teacher and student against the truth
    fewstep report runs/x                      one self-contained report.html
    fewstep demo                               all of it in minutes

Running a command again goes on where it was stopped. Exit codes: 0 done, 2 a mistake that the user
can repair (one sentence on stderr), 130 interrupted after a checkpoint.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import diffusers
import transformers
from rich.console import Console

from fewstep.cli import commands
from fewstep.cli.options import asked, changed
from fewstep.errors import UserError
from fewstep.experiment.codec import from_yaml, suggestion
from fewstep.experiment.config import Experiment
from fewstep.recipes import RECIPES
from fewstep.runs import RunError
from fewstep.train.loop import NotFiniteError

VERBS = ("recipes", "train", "sample", "eval", "report", "demo")
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned, and raised as SystemExit by tyro's --help."""
    words = list(sys.argv[1:] if argv is None else argv)
    for library in (diffusers, transformers):  # bars for loading five small files
        library.utils.logging.disable_progress_bar()
    try:
        return dispatch(words)
    except (UserError, RunError, NotFiniteError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    # A warning names what is wrong with a file; everything else is progress.
    console = Console(highlight=False, soft_wrap=True)
    match verb:
        case "recipes":
            return recipes(console)
        case "train":
            return train(rest, console)
        case "sample":
            request = asked(
                commands.SampleRequest, rest, "fewstep sample", "Pictures from a model directory."
            )
            return commands.sample(request, console)
        case "eval":
            return commands.evaluate(one_run(rest, "eval"), console)
        case "report":
            return commands.report(one_run(rest, "report"), console)
        case "demo":
            return demo(rest, console)
        case _:
            raise UserError(f"there is no command {verb!r}; {suggestion(verb, VERBS)}")


def recipes(console: Console) -> int:
    for name, recipe in RECIPES.items():
        paragraphs = [" ".join(p.split()) for p in (recipe.__doc__ or "").split("\n\n")]
        console.print(f"{name}\n  " + "\n  ".join(p for p in paragraphs if p), markup=False)
    return 0


@dataclass(frozen=True)
class Invocation:
    """What `fewstep train ...` asks for."""

    experiment: Experiment
    out: Path
    dry_run: bool


def parse_train(words: list[str]) -> Invocation:
    """A recipe or --config, changed by whatever --field options follow."""
    name = words.pop(0) if words and not words[0].startswith("-") else None
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    parser.add_argument("--out")
    parser.add_argument("--dry-run", action="store_true")
    own, fields = parser.parse_known_args(words)
    if (name is None) == (own.config is None):
        raise UserError(
            "train needs either a recipe or --config FILE; "
            f"recipes: {', '.join(RECIPES)} (see `fewstep recipes`)"
        )
    if name is None:
        path = Path(own.config)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the configuration {path} cannot be read: {error}") from None
        default, label = from_yaml(text, str(path)), path.stem
    elif name in RECIPES:
        default, label = RECIPES[name](), name
    else:
        raise UserError(f"there is no recipe {name!r}; {suggestion(name, RECIPES)}")
    source = name or f"--config {own.config}"
    experiment = changed(default, fields, f"fewstep train {source}")
    return Invocation(experiment, Path(own.out or f"runs/{label}"), own.dry_run)


def train(words: list[str], console: Console) -> int:
    command = "fewstep train " + shlex.join(words)
    wanted = parse_train(words)
    if wanted.dry_run:
        return commands.describe(wanted.experiment, wanted.out, console)
    return commands.train(wanted.experiment, wanted.out, command, console)


def one_run(words: list[str], verb: str) -> Path:
    if len(words) != 1 or words[0].startswith("-"):
        raise UserError(f"{verb} takes one run directory: fewstep {verb} runs/NAME")
    directory = Path(words[0])
    if not (directory / "config.yaml").is_file():
        raise UserError(f"{directory} holds no run: there is no config.yaml in it")
    return directory


def demo(words: list[str], console: Console) -> int:
    """Distil, measure and report in one go; takes the options of `train ladd_shapes_demo`."""
    command = shlex.join(["fewstep", "demo", *words])
    wanted = parse_train(["ladd_shapes_demo", *words])
    if wanted.dry_run:
        return commands.describe(wanted.experiment, wanted.out, console)
    code = commands.train(wanted.experiment, wanted.out, command, console)
    return code or commands.evaluate(wanted.out, console) or commands.report(wanted.out, console)
