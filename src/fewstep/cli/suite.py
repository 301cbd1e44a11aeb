"""`fewstep eval MODEL... --suite NAME`: any models or pictures, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from fewstep.cli.verbs import EvalRequest
from fewstep.errors import UserError
from fewstep.evaluate import lpips
from fewstep.evaluate.features import FeatureCache, make_extractors
from fewstep.evaluate.gallery import open_gallery, true_pictures
from fewstep.evaluate.generate import Progress
from fewstep.evaluate.gram import mean_pairwise_lpips
from fewstep.evaluate.judge import Judged, judge, truth_row
from fewstep.evaluate.measures import Instruments, Score, Spread
from fewstep.evaluate.results import Comparison, Curve, Evaluation, Role, write_evaluation
from fewstep.evaluate.show import grid, likeness, sheets
from fewstep.evaluate.suites import (
    SUITES,
    Suite,
    against_first,
    gaps,
    retention_curves,
    strength_curves,
)
from fewstep.experiment.builder import world_named
from fewstep.experiment.candidates import Asked, Loader, Means, candidate, parse
from fewstep.experiment.prompts import read_lines
from fewstep.runs import user_path
from fewstep.worlds.base import World

FEATURES = "~/.cache/fewstep/features"

Lines = Mapping[str, Mapping[float, str]]
"""For each model the names of its rows, by steps or by strength."""


def evaluate_models(request: EvalRequest, command: str, told: Progress) -> Path:
    """Draw what is missing, measure it and write DIR/evaluation.json with its pictures."""
    suite = SUITES[request.suite]
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = world_named(request.world)
    models = [parse(text, request.steps, request.guidance) for text in request.models]
    prompts, seeds = matrix(request, suite, world, models)
    out = request.out or Path("evaluations") / request.suite
    means = Means(
        folder=out / "pictures", device=device, dtype=request.dtype, engine=request.engine,
        batch=request.batch, height=request.height, width=request.width,
    )  # fmt: skip
    load = Loader(means)
    rows, lines = rows_of(request, suite, models)
    names, spreads, notes = pairwise_of(request, suite, device)
    caches = {
        extractor.name: FeatureCache(user_path(FEATURES), extractor)
        for extractor in make_extractors(names, device)
    }
    instruments = Instruments(
        features=caches, spreads=spreads, scores=scores_of(request.scores, device)
    )
    candidates = [candidate(asked, prompts, seeds, load, means) for asked in rows]
    if request.reference is not None:
        asked = parse(request.reference, request.steps, request.guidance)
        reference = candidate(asked, prompts, seeds, load, means).draw(told).pictures
    elif world is not None:
        reference = true_pictures(world, prompts, seeds)
        candidates.insert(0, truth_row(world, prompts, seeds))
    else:
        raise UserError("--reference MODEL is needed where --world is none: what to compare with")
    try:
        judged = judge(candidates, reference, world, instruments, told)
    finally:
        for cache in caches.values():
            cache.flush()
    judged.notes.extend(notes)
    return write(request, suite, judged, lines, out, command)


def pairwise_of(
    request: EvalRequest, suite: Suite, device: torch.device
) -> tuple[list[str], dict[str, Spread], list[str]]:
    """The names of extractors, the perceptual distances among them, and what was left out: a suite
    goes without LPIPS where its weights are not there, unless it was asked for by name."""
    asked = request.extractors or suite.extractors
    names = [name for name in asked if not name.startswith("lpips-")]
    spreads: dict[str, Spread] = {}
    notes: list[str] = []
    for name in asked:
        if name not in names:
            try:
                net = lpips.load(name).to(device)
            except UserError as error:
                if request.extractors is not None:
                    raise
                notes.append(f"{name} was left out: {error}")
                continue
            spreads[name.replace("-", "_")] = partial(mean_pairwise_lpips, net)
    return names, spreads, notes


def scores_of(names: Sequence[str], device: torch.device) -> dict[str, Score]:
    if not names:
        return {}
    from fewstep.evaluate.scores import make_scores  # transformers' models take seconds to import

    return make_scores(names, device)


def write(
    request: EvalRequest, suite: Suite, judged: Judged, lines: Lines, out: Path, command: str
) -> Path:
    """The evaluation with its pictures."""
    picture, caption = grid(judged, out / "evaluation.png")
    maps = likeness(judged, out / "likeness.png")
    evaluation = Evaluation(
        suite=request.suite, question=question_of(request, suite), world=request.world,
        rows=judged.rows, comparisons=compared(request, judged),
        grids={picture.name: caption, **maps}, sheets=sheets(judged, out / "sheets", suite.sheets),
        notes=judged.notes, curves=curves(request, judged, lines),
        commands=[command, f"fewstep report {out}"],
    )  # fmt: skip
    path = out / "evaluation.json"
    write_evaluation(path, evaluation)
    return path


def question_of(request: EvalRequest, suite: Suite) -> str:
    if request.gap is None:
        return suite.question
    start, end = request.gap
    return f"Is the gap between {start} and {end} closed?"


def matrix(
    request: EvalRequest, suite: Suite, world: World | None, models: Sequence[Asked]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Prompts and seeds: those of the first folder of pictures, of the file, or of the world."""
    n, seeds = request.prompts or suite.prompts, tuple(range(request.seeds or suite.seeds))
    for model in models:
        if model.is_pictures:
            pictures = open_gallery(user_path(model.source))
            if world is not None and request.reference is None:
                check(world, pictures.prompts, model)
            return pictures.prompts, pictures.seeds
    if request.prompts_file is not None:
        lines = read_lines(request.prompts_file, n, "--prompts", "--prompts-file", world)
        return tuple(lines[:n]), seeds
    if world is None:
        raise UserError("--prompts-file is needed where --world is none: one prompt a line")
    return tuple(world.prompts(request.split, n)), seeds


def check(world: World, prompts: Sequence[str], model: Asked) -> None:
    try:
        world.check(prompts)
    except ValueError as error:
        raise UserError(
            f"the pictures in {model.source}: {error}; set --world to none and name a --reference"
        ) from None


def rows_of(
    request: EvalRequest, suite: Suite, models: Sequence[Asked]
) -> tuple[list[Asked], Lines]:
    """Every row, and which of them make a line in a plot."""
    found: list[Asked] = []
    lines: dict[str, dict[float, str]] = {}
    for model in with_roles(models, request.gap):
        if request.adapter is not None:
            each = {s: replace(model, adapter=request.adapter, strength=s)
                    for s in request.strengths}  # fmt: skip
        elif suite.steps and not model.is_pictures:
            each = {float(n): replace(model, steps=n) for n in suite.steps}
        else:
            found.append(model)
            continue
        found += each.values()
        lines[model.name] = {x: asked.title for x, asked in each.items()}
    return found, lines


def with_roles(models: Sequence[Asked], gap: tuple[str, str] | None) -> list[Asked]:
    """The models with the ends of the gap marked, and the one between them where there is one."""
    if gap is None:
        return list(models)
    texts = [model.text for model in models]
    if lost := [text for text in gap if text not in texts]:
        raise UserError(f"--gap names {lost[0]!r}, which is none of the models {', '.join(texts)}")
    start, end = gap
    between = [text for text in texts if text not in gap]
    roles: dict[str, Role] = {start: "teacher_few", end: "teacher_full"}
    if len(between) == 1:
        roles[between[0]] = "student"
    return [replace(model, role=roles.get(model.text, "other")) for model in models]


def compared(request: EvalRequest, judged: Judged) -> list[Comparison]:
    found = against_first(judged)
    if request.gap is not None:
        start, end = (
            parse(text, request.steps, request.guidance).title for text in request.gap
        )  # fmt: skip
        found = [*gaps(judged, start, end), *found]
    return found


def curves(request: EvalRequest, judged: Judged, lines: Lines) -> list[Curve]:
    if request.adapter is not None:
        return strength_curves(judged, lines)
    return retention_curves(judged, lines) if lines else []
