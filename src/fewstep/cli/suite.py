"""`fewstep eval MODEL... --suite NAME`: any models or pictures, side by side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from fewstep.cli.rows import Lines, matrix, rows_of
from fewstep.cli.verbs import EvalRequest
from fewstep.errors import UserError
from fewstep.evaluate import lpips
from fewstep.evaluate.features import FeatureCache, make_extractors
from fewstep.evaluate.folder import held
from fewstep.evaluate.gallery import true_pictures
from fewstep.evaluate.generate import Progress
from fewstep.evaluate.gram import mean_pairwise_lpips
from fewstep.evaluate.judge import Judged, judge, truth_row
from fewstep.evaluate.measures import Instruments, Score, Spread
from fewstep.evaluate.results import Comparison, Curve, Evaluation, write_evaluation
from fewstep.evaluate.show import grid, likeness, sheets
from fewstep.evaluate.suites import (
    SUITES,
    Suite,
    against_first,
    gaps,
    retention_curves,
    strength_curves,
)
from fewstep.experiment.candidates import Asked, Loader, Means, apart, candidate, parse
from fewstep.experiment.models import world_named
from fewstep.families.adapters import Gate, Strength
from fewstep.runs import user_path

FEATURES = "~/.cache/fewstep/features"


def evaluate_models(request: EvalRequest, command: str, told: Progress) -> Path:
    """Draw what is missing, measure it and write DIR/evaluation.json with its pictures."""
    suite = SUITES[request.suite]
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = world_named(request.world)
    models = apart([parse(text, request.steps, request.guidance) for text in request.models])
    rows, lines = rows_of(request, suite, models)
    standard = reference_of(request)
    prompts, seeds = matrix(request, suite, world, [*models, *standard])
    out = request.out or Path("evaluations") / request.suite
    means = Means(
        folder=out / "pictures", device=device, dtype=request.dtype, engine=request.engine,
        batch=request.batch, height=request.height, width=request.width,
    )  # fmt: skip
    load = Loader(means)
    names, spreads, notes = pairwise_of(request, suite, device)
    caches = {
        extractor.name: FeatureCache(user_path(FEATURES), extractor)
        for extractor in make_extractors(names, device)
    }
    instruments = Instruments(
        features=caches, spreads=spreads, scores=scores_of(request.scores, device)
    )
    candidates = [candidate(asked, prompts, seeds, load, means) for asked in rows]
    with held(out):
        if standard:
            reference = candidate(standard[0], prompts, seeds, load, means).draw(told).pictures
        else:
            assert world is not None  # `reference_of` sees to it
            reference = true_pictures(world, prompts, seeds)
            candidates.insert(0, truth_row(world, prompts, seeds))
        try:
            judged = judge(candidates, reference, world, instruments, told)
        finally:
            for cache in caches.values():
                cache.flush()
        judged.notes.extend(notes)
        return write(request, suite, judged, models, lines, out, command)


def reference_of(request: EvalRequest) -> list[Asked]:
    """The model whose pictures take the place of the truth, if there is one."""
    if request.reference is not None:
        return [parse(request.reference, request.steps, request.guidance)]
    if request.world == "none":
        raise UserError("--reference MODEL is needed where --world is none: what to compare with")
    return []


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
                there = (lpips.weights_folder() / f"{name}.safetensors").exists()
                if there or request.extractors is not None:
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
    request: EvalRequest, suite: Suite, judged: Judged, models: Sequence[Asked], lines: Lines,
    out: Path, command: str,
) -> Path:  # fmt: skip
    """The evaluation with its pictures."""
    picture, caption = grid(judged, out / "evaluation.png")
    maps = likeness(judged, out / "likeness.png")
    evaluation = Evaluation(
        suite=request.suite, question=question_of(request, suite), world=request.world,
        rows=judged.rows, comparisons=compared(request, judged, models, lines),
        grids={picture.name: caption, **maps}, sheets=sheets(judged, out / "sheets", suite.sheets),
        notes=judged.notes, curves=curves(request, judged, lines),
        commands=[command, shlex.join(["fewstep", "report", str(out)])],
    )  # fmt: skip
    path = out / "evaluation.json"
    write_evaluation(path, evaluation)
    return path


def question_of(request: EvalRequest, suite: Suite) -> str:
    if request.gap is None:
        return suite.question
    start, end = request.gap
    return f"Is the gap between {start} and {end} closed?"


def compared(
    request: EvalRequest, judged: Judged, models: Sequence[Asked], lines: Lines
) -> list[Comparison]:
    """Every model against the first: at the same steps, or each strength against the first one."""
    if lines:
        of_models = [list(points.values()) for points in lines.values()]
        groups = of_models if request.adapter is not None else zip(*of_models, strict=True)
        return [found for rows in groups for found in against_first(judged, rows)]
    found = against_first(judged, [row.name for row in judged.rows if row.role != "truth"])
    if request.gap is not None:
        titles = {model.text: model.title for model in models}
        found = [*gaps(judged, *(titles[text] for text in request.gap)), *found]
    return found


def curves(request: EvalRequest, judged: Judged, lines: Lines) -> list[Curve]:
    points = {model: numbers for model, of in lines.items() if (numbers := without_gates(of))}
    if not points:
        return []
    return (strength_curves if request.adapter is not None else retention_curves)(judged, points)


def without_gates(rows: Mapping[Strength, str]) -> dict[float, str]:
    """The rows that have a place on an axis."""
    return {x: row for x, row in rows.items() if not isinstance(x, Gate)}
