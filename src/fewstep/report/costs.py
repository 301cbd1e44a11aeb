"""What it cost, as far as it was recorded: nothing here is estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewstep.report.collect import RunRecord
from fewstep.report.numbers import TIMES, duration
from fewstep.report.results import Row
from fewstep.report.tables import Cell


def drawing_costs(rows: Sequence[Row]) -> list[tuple[Row, list[Cell]]]:
    """Seconds, pictures, seconds a picture, model calls and peak memory of rows that tell."""
    found: list[tuple[Row, list[Cell]]] = []
    for row in rows:
        if row.cost is None:
            continue
        cost = row.cost
        each = cost.seconds / cost.images if cost.images else None
        found.append((row, [
            Cell(str(cost.images), "", cost.images),
            Cell(f"{cost.model_calls:,}".replace(",", "\u2009"), "", cost.model_calls),
            Cell(duration(cost.seconds), "", cost.seconds),
            Cell("n/a") if each is None else Cell(duration(each), "", each),
            memory(cost.peak_memory_mb),
        ]))  # fmt: skip
    return found


def training_costs(records: Sequence[RunRecord]) -> list[tuple[str, list[Cell]]]:
    """Steps, wall, processor and GPU time, and peak memory of every run that trained."""
    found: list[tuple[str, list[Cell]]] = []
    for record in records:
        if (training := record.training) is None:
            continue
        cells = [Cell(str(training.steps), "", training.steps)]
        for seconds in (training.seconds, training.cpu_seconds, training.gpu_seconds):
            cells.append(Cell("n/a") if seconds is None else Cell(duration(seconds), "", seconds))
        cells.append(memory(training.peak_memory_mb))
        cells.append(Cell(processor(record.env)))
        found.append((record.name, cells))
    return found


def processor(env: Mapping[str, str]) -> str:
    """What it ran on: the GPU, else the processor with its number of cores."""
    if "gpu" in env:
        return env["gpu"]
    name, count = env.get("cpu", ""), env.get("cpus")
    return f"{name} {TIMES} {count}" if count else name


def memory(megabytes: float | None) -> Cell:
    return Cell("n/a") if megabytes is None else Cell(f"{megabytes:.0f} MB", "", megabytes)
