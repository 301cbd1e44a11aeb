"""Which experiment a command line asks for: a recipe or --config, changed by --field options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.cli import opening
from fewstep.cli.options import changed, parse
from fewstep.cli.verbs import TrainRequest
from fewstep.errors import UserError
from fewstep.experiment.codec import suggestion
from fewstep.experiment.config import Experiment
from fewstep.recipes import RECIPES
from fewstep.train.viewers import ViewerName


@dataclass(frozen=True)
class Invocation:
    """What `fewstep train ...` asks for."""

    experiment: Experiment
    out: Path
    dry_run: bool
    force: bool
    track: ViewerName | None


def parse_train(words: list[str]) -> Invocation:
    """A recipe or --config, changed by whatever --field options follow."""
    name, rest = split_name(words)
    own, fields = parse(TrainRequest, rest, "fewstep train")
    experiment, label = chosen("train", name, own.config, fields)
    out = own.out or Path(f"runs/{label}")
    return Invocation(experiment, out, own.dry_run, own.force, own.track)


def split_name(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe, if the words begin with one, and the options."""
    name = words[0] if words and not words[0].startswith("-") else None
    return name, words[name is not None :]


def chosen(
    verb: str, name: str | None, config: Path | None, fields: Sequence[str]
) -> tuple[Experiment, str]:
    """The experiment of a recipe or a file, changed by the fields, and a label for it."""
    match name, config:
        case None, Path() as path:
            default, label = opening.read_config(path), path.stem
        case str() as recipe, None if recipe in RECIPES:
            default, label = RECIPES[recipe](), recipe
        case str() as unknown, None:
            raise UserError(f"there is no recipe {unknown!r}; {suggestion(unknown, RECIPES)}")
        case _:
            raise UserError(
                f"{verb} needs either a recipe or --config FILE; "
                f"recipes: {', '.join(RECIPES)} (see `fewstep recipes`)"
            )
    return changed(default, fields, f"fewstep {verb} {name or f'--config {config}'}"), label
