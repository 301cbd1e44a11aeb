"""What `fewstep eval --suite` draws: prompts x seeds, and the rows of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fewstep.cli.verbs import EvalRequest
from fewstep.errors import UserError
from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.evaluate.gallery import open_gallery
from fewstep.evaluate.results import Role
from fewstep.evaluate.suites import Suite
from fewstep.experiment.candidates import Asked
from fewstep.experiment.prompts import read_lines
from fewstep.families.adapters import Strength, at_steps
from fewstep.runs import user_path
from fewstep.worlds.base import World

Lines = Mapping[str, Mapping[Strength, str]]
"""For each model that makes a line in a plot the names of its rows, by steps or by strength."""


def matrix(
    request: EvalRequest, suite: Suite, world: World | None, models: Sequence[Asked]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Prompts and seeds: those of the first folder of pictures, of the file, or of the world."""
    if first := next((model for model in models if model.is_pictures), None):
        return matrix_of(request, world, first)
    n, seeds = request.prompts or suite.prompts, tuple(range(request.seeds or suite.seeds))
    if request.prompts_file is not None:
        lines = read_lines(request.prompts_file, n, "--prompts", "--prompts-file", world)
        return tuple(lines[:n]), seeds
    if world is None:
        raise UserError("--prompts-file is needed where --world is none: one prompt a line")
    return tuple(world.prompts(request.split, n)), seeds


def matrix_of(
    request: EvalRequest, world: World | None, model: Asked
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Prompts and seeds of a folder of pictures; UserError where it cannot be measured."""
    asked = {"--prompts": request.prompts, "--seeds": request.seeds,
             "--prompts-file": request.prompts_file}  # fmt: skip
    if given := [name for name, value in asked.items() if value is not None]:
        raise UserError(
            f"{given[0]} cannot be had: the pictures in {model.source} say which prompts and seeds "
            "there are; leave it out"
        )
    pictures = open_gallery(user_path(model.source))
    if len(pictures.prompts) < MIN_PROMPTS:
        raise UserError(
            f"the pictures in {model.source} are of {len(pictures.prompts)} prompts, at least "
            f"{MIN_PROMPTS} are needed; make more"
        )
    if world is not None:
        try:
            world.check(pictures.prompts)
        except ValueError as error:
            raise UserError(
                f"the pictures in {model.source}: {error}; set --world to none and name a "
                "--reference"
            ) from None
    return pictures.prompts, pictures.seeds


def rows_of(
    request: EvalRequest, suite: Suite, models: Sequence[Asked]
) -> tuple[list[Asked], Lines]:
    """Every row, and which of them make a line in a plot."""
    check_lines(request, suite)
    found: list[Asked] = []
    lines: dict[str, Mapping[Strength, str]] = {}
    for model in with_roles(models, request.gap):
        if model.is_pictures:
            found.append(model)
            continue
        if request.adapter is not None:
            name = model.title
            for strength in request.strengths:
                at_steps(strength, model.steps)
            each = {s: replace(model, adapter=request.adapter, strength=s)
                    for s in request.strengths}  # fmt: skip
        elif suite.steps:
            name = f"{model.name}{model.guided}"
            each = {float(n): replace(model, steps=n) for n in suite.steps}
        else:
            found.append(model)
            continue
        found += each.values()
        lines[name] = {x: asked.title for x, asked in each.items()}
    return found, lines


def check_lines(request: EvalRequest, suite: Suite) -> None:
    """UserError where a model would be several rows in two ways, or none."""
    if request.adapter is not None:
        if suite.steps:
            raise UserError(
                f"the suite {request.suite} draws at steps of its own, --adapter at strengths; "
                "take another suite"
            )
        if not request.strengths:
            raise UserError("--strengths needs at least one strength, such as 0.5 or 1,1,0,0")
    if request.gap is not None and (suite.steps or request.adapter is not None):
        raise UserError(
            "--gap compares models of one row each, which they are not with --adapter or in the "
            "suite retention; leave it out"
        )


def with_roles(models: Sequence[Asked], gap: tuple[str, str] | None) -> list[Asked]:
    """The models with the ends of the gap marked, and the one between them where there is one."""
    if gap is None:
        return list(models)
    texts = [model.text for model in models]
    if lost := [text for text in gap if text not in texts]:
        raise UserError(f"--gap names {lost[0]!r}, which is none of the models {', '.join(texts)}")
    start, end = gap
    if start == end:
        raise UserError(f"--gap names {start!r} twice; name two models")
    between = [text for text in texts if text not in gap]
    roles: dict[str, Role] = {start: "teacher_few", end: "teacher_full"}
    if len(between) == 1:
        roles[between[0]] = "student"
    return [replace(model, role=roles.get(model.text, "other")) for model in models]
