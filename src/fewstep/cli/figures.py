"""What an evaluation found, for the terminal: main metrics, comparisons and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewstep.report.evaluation import read_evaluation
from fewstep.report.numbers import MINUS
from fewstep.report.results import Evaluation
from fewstep.report.tables import Card, Cell, cards, compared

TITLE = "(95 % interval)"
GAP = 2
"""Spaces between columns."""
NAMES = 1 / 3
"""The most of a line that names of models take; longer ones are broken."""


def show(directory: Path, console: Console) -> None:
    """Print the evaluation that stands in a directory, then what was written there."""
    found = read_evaluation(directory)
    for part in fitting(cards(found), console.width):
        console.print(metrics(part, console.width), soft_wrap=False)
        console.print()
    if found.comparisons:
        console.print(comparisons(found), soft_wrap=False)
        console.print()
    for note in found.notes:
        console.print(Text(f"note: {note}"), soft_wrap=False)
    for path in written(found, directory):
        console.print(f"wrote {path}")


def metrics(part: Sequence[Card], width: int) -> Table:
    """A line for each model, a column for each metric: value (95 % interval)."""
    table = columns(TITLE, int(NAMES * width))
    for card in part:
        table.add_column(head(card), justify="right", no_wrap=True)
    for name in dict.fromkeys(mark.row.name for card in part for mark in card.marks):
        cells = [{mark.row.name: mark.cell for mark in card.marks} for card in part]
        table.add_row(name, *(told(own[name]) if name in own else "n/a" for own in cells))
    return table


def comparisons(found: Evaluation) -> Table:
    """A line for each: the first row minus the second, or the share of a gap."""
    table = columns("compared", None)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")
    for comparison in found.comparisons:
        cell, goal, reads, _ = compared(comparison, found)
        table.add_row(comparison.name, told(cell), f"{reads} (goal {goal})" if goal else reads)
    return table


def columns(title: str, names: int | None) -> Table:
    """A table with a first column of names, at most so wide; other columns keep their width."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="")
    table.add_column(title, overflow="fold", max_width=names, vertical="bottom")
    return table


def fitting(found: Sequence[Card], width: int) -> list[list[Card]]:
    """The metrics in as few tables as their columns need, each at most as wide as the console."""
    names = widest([TITLE, *(mark.row.name for card in found for mark in card.marks)])
    room = width - min(names, int(NAMES * width))
    parts: list[list[Card]] = []
    left = 0
    for card in found:
        wanted = GAP + widest([*head(card).splitlines(), *(told(m.cell) for m in card.marks)])
        if not parts or wanted > left:
            parts.append([])
            left = room
        parts[-1].append(card)
        left -= wanted
    return parts


def head(card: Card) -> str:
    return f"{card.metric.label}\n{card.metric.better}"


def told(cell: Cell) -> str:
    """Value (interval), with the minus that every terminal and encoding has."""
    text = f"{cell.text} ({cell.below})" if cell.below else cell.text
    return text.replace(MINUS, "-")


def widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts))


def written(found: Evaluation, directory: Path) -> list[Path]:
    """The evaluation, its grids and the folder of its sheets, as the directory was named."""
    places = [grid.path for grid in found.grids]
    places += dict.fromkeys(sheet.picture.path.parent for sheet in found.sheets)
    root = directory.resolve()
    return [directory / "evaluation.json", *(directory / p.relative_to(root) for p in places)]
