"""The D-OPSD studies that train nothing: the teacher before training, and memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks import common, pages
from benchmarks.dopsd_concepts import Taught, pictures
from benchmarks.dopsd_judge import SHARES, Judge
from benchmarks.dopsd_memory import STATES, apart, cases, growth
from benchmarks.dopsd_records import SUCCESS, memory_record, teacher_record
from benchmarks.dopsd_rows import over_concepts
from benchmarks.pages import percent
from benchmarks.study_plan import changed
from rich.console import Console

from fewstep import claims
from fewstep.evaluate.grids import Column, write_grid
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import model_path
from fewstep.experiment.outline import outline

OTHERS = {
    "SFT": "sft_tune_shapes", "DreamBooth": "dreambooth_shapes", "PSO": "pso_shapes",
    "off-policy distillation": "offpolicy_shapes",
}  # fmt: skip


def teacher(judge: Judge, concepts: Sequence[Taught], command: str, console: Console) -> int:
    """What the student draws of each concept beside its pictures, alone, and in words."""
    ways: Mapping[str, Callable[[Taught], Mapping[str, Any]]] = {
        "in context": lambda one: judge.in_context(one, judge.student),
        "told alone": lambda one: judge.concept(one, judge.student),
        "nearest words": lambda one: judge.concept(one, judge.student, told="words"),
    }
    rows = {
        one.name: {way: {share: float(of(one)[share].mean()) for share in SHARES}
                   for way, of in ways.items()}
        for one in concepts
    }  # fmt: skip
    success = over_concepts({(n, 0): row["in context"]["success"] for n, row in rows.items()})
    made, where = common.facts(command, judge.args.threads), judge.where
    common.write_json(
        where.results / "tables" / "dopsd_teacher.json",
        {"schema": 1, **made, **judge.facts(), "student": judge.student.fingerprint(),
         "concepts": {one.name: repr(one.concept) for one in concepts}, "rows": rows},
    )  # fmt: skip
    each = judge.args.novel * len(judge.seeds)
    grid = where.docs / "figures" / "dopsd_concepts.png"
    shown = torch.stack([pictures(judge.world, one) for one in concepts], 1)
    columns = [Column(f"picture {i}", of_all) for i, of_all in enumerate(shown)]
    write_grid(grid, columns, [one.name for one in concepts])
    text = (
        "# What the teacher of D-OPSD can draw\n\n"
        f"The student before training, {judge.base.sampling.steps} steps, on {judge.args.novel} "
        f"novel prompts of each concept x {len(judge.seeds)} seeds: read beside a picture of the "
        f"concept, told alone, and in the nearest words that exist. Share of {each} pictures that "
        f"succeed; {SUCCESS}. In context over all concepts: {percent(success)}, t-interval over "
        "concepts.\n\n![The pictures of each concept](figures/dopsd_concepts.png)\n\n"
        + pages.markdown(
            ["", *ways, "in context: all right", "count, size, background", "copies"],
            [[name, *(f"{100 * row[way]['success']:.0f} %" for way in ways),
              *(f"{100 * row['in context'][s]:.0f} %" for s in ("right", "asked", "copied"))]
             for name, row in rows.items()],
        )
    )  # fmt: skip
    pages.write_text(where.docs / "dopsd_teacher.md", command, text)
    stated = [teacher_record(success, len(concepts), each, made)]
    path = claims.write(stated, "dopsd", where.results)
    console.print(f"wrote {where.docs / 'dopsd_teacher.md'} and {path}; {percent(success)}")
    return 0


def memory(
    args: argparse.Namespace, of: Callable[[str], Experiment], folder: Path, command: str,
    console: Console,
) -> int:  # fmt: skip
    """Two steps of each case in a process of its own."""

    def on_folder(name: str) -> Experiment:
        return changed(of(name), {"data.folder.path": str(folder)})

    family = outline(Path(model_path(args.student)))
    todo = cases(
        on_folder("dopsd_shapes"), {label: on_folder(name) for label, name in OTHERS.items()},
        family.sigmas,
    )  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for name, experiment in todo.items():
        console.print(f"measuring {name}")
        found[name] = apart(experiment)
    made, where = common.facts(command, args.threads), common.roots(args)
    common.write_json(
        where.results / "tables" / "dopsd_memory.json", {"schema": 1, **made, "cases": found}
    )
    text = (
        "# Memory of tuning\n\nTwo steps in a fresh process each, batches as in the recipes. Held "
        "by autograd: the bytes of everything kept for a gradient at the fullest moment, weights "
        "left out. Peak: resident memory of the process, libraries and model included. From "
        f"{STATES[0]} to {STATES[-1]} states the first grows "
        f"{growth(found, 'activations_mb'):.3f} times, the second {growth(found, 'peak_mb'):.3f} "
        "times.\n\n"
        + pages.markdown(
            ["", "held by autograd, MB", "peak, MB"],
            [[name, f"{of['activations_mb']:.1f}", f"{of['peak_mb']:.0f}"]
             for name, of in found.items()],
        )
    )  # fmt: skip
    pages.write_text(where.docs / "dopsd_memory.md", command, text)
    path = claims.write([memory_record(found, made)], "dopsd", where.results)
    console.print(f"wrote {where.docs / 'dopsd_memory.md'} and {path}")
    return 0
