"""An SDA adapter and a concept's adapter in one model, over both strengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import common, pages
from benchmarks.dopsd_judge import OLD, Judge
from benchmarks.dopsd_plan import Task
from benchmarks.dopsd_records import OVER, SUCCESS
from benchmarks.dopsd_rows import over_concepts
from benchmarks.pages import percent, shown
from rich.console import Console

from fewstep.errors import UserError
from fewstep.experiment.trees import sha256, stacked, state_of

STRENGTHS = (0.0, 0.5, 1.0)
SHOWN = ("success", "right", "copied", "concept_layouts", "adherence", "layout_diversity", "vendi",
         "kid")  # fmt: skip


def values(judge: Judge, task: Task, sda: Path, strengths: tuple[float, float]) -> dict[str, float]:
    """Figures of the concept's run with SDA, at (SDA's strength, the concept's); UserError where
    there is no such run."""
    adapter = task.directory(judge.runs) / "adapter.safetensors"
    if not adapter.is_file():
        raise UserError(
            f"the adapter of {task.taught.name}, training seed {task.seed}, is not there "
            f"({adapter}); train it on this student with `python -m benchmarks.dopsd run stack`"
        )
    family, files = judge.load(judge.base.model), (sda, adapter)
    states = [state_of(family, path) for path in files]
    family.backbone = stacked(family, states, strengths, judge.base.sampling.steps)
    how = "".join(
        f", {sha256(path)[:16]} x {strength:g}"
        for path, strength in zip(files, strengths, strict=True)
    )
    found = judge.concept_values(task.taught, judge.concept(task.taught, family, how=how))
    return found | judge.point(judge.measures(family, "few", how))


def write(judge: Judge, tasks: Sequence[Task], sda: Path, command: str, console: Console) -> int:
    """The page and the table."""
    grid = list(product(STRENGTHS, STRENGTHS))
    rows: list[dict[str, Any]] = []
    lines: list[list[str]] = []
    for pair in grid:
        found = {(t.taught.name, t.seed): values(judge, t, sda, pair) for t in tasks}
        figures = {m: over_concepts({k: of[m] for k, of in found.items() if np.isfinite(of[m])})
                   for m in SHOWN}  # fmt: skip
        rows.append({"sda": pair[0], "concept": pair[1],
                     **{m: e.to_json() for m, e in figures.items()}})  # fmt: skip
        text = [shown(e) if m in OLD and m != "adherence" else percent(e)
                for m, e in figures.items()]  # fmt: skip
        lines.append([f"{pair[0]:g}", f"{pair[1]:g}", *text])
    made = common.facts(command, judge.args.threads)
    where = judge.where
    table = {"schema": 1, **made, **judge.facts(), "sda": sha256(sda), "rows": rows}
    common.write_json(where.results / "tables" / "dopsd_stack.json", table)
    text = (
        "# A concept's adapter with SDA's\n\n"
        f"Both stacked in one student, {len(tasks)} runs of the concept's; {SUCCESS}. In brackets "
        f"95 %: {OVER}.\n\n"
        + pages.markdown(["SDA", "concept", *(m.replace("_", " ") for m in SHOWN)], lines)
    )
    pages.write_text(where.docs / "dopsd_stack.md", command, text)
    console.print(f"wrote {where.docs / 'dopsd_stack.md'}")
    return 0
