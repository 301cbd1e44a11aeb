"""What curation leaves: tables, lists and the facts of its page.

prompts.parquet    every prompt that is taken: text, source, line, labels and split
dropped.parquet    every row that is not, with the reason and the text it repeats
train.txt  val.txt  test.txt    a prompt on each line, as `--data.prompts-file` reads them, in an
                   order of chance
report.json        the numbers of the page
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from fewstep.curation.book import Book, write_table
from fewstep.curation.config import Curation
from fewstep.curation.pipeline import Curated
from fewstep.curation.splits import NAMES
from fewstep.curation.steps import FILLED, REASONS, SURPLUS
from fewstep.curation.strata import draw, gaps
from fewstep.curation.taxonomy import OTHER
from fewstep.machine import environment
from fewstep.runs import write_atomic

EXAMPLES = 5
"""Rows shown of each reason."""
WORDS = (0, 5, 10, 15, 20, 30, 40, 60, 80, 100)
"""Where the bins of lengths begin."""


def write(curated: Curated, cfg: Curation, out: Path, command: str) -> dict[str, Any]:
    """Write everything but the page; the facts of which are returned."""
    book = curated.book
    table = book.table()
    kept = pa.array([why is None for why in book.why], pa.bool_())
    left_out = pa.array([why is not None for why in book.why], pa.bool_())
    write_table(out / "prompts.parquet", table.filter(kept).drop_columns(["why", "of", "likeness"]))
    write_table(out / "dropped.parquet", table.filter(left_out))
    # in an order of chance: who takes the first so many gets every kind
    order = sorted(book.kept(), key=lambda i: draw(cfg.seed, f"order {book.ids[i]}"))
    for name in NAMES:
        texts = [book.texts[i] for i in order if book.splits[i] == name]
        write_atomic(out / f"{name}.txt", "".join(f"{text}\n" for text in texts).encode())
    facts = {
        "schema": 1, "command": command, "environment": environment(), **numbers(curated, cfg),
    }  # fmt: skip
    write_atomic(out / "report.json", json.dumps(facts, indent=1, ensure_ascii=False).encode())
    return facts


def numbers(curated: Curated, cfg: Curation) -> dict[str, Any]:
    book, rows = curated.book, curated.book.kept()
    offered = [i for i, why in enumerate(book.why) if why is None or why == SURPLUS]
    became = book.counts()
    return {
        "read": len(book) - book.sources.count(FILLED),
        "filled": book.sources.count(FILLED),
        "became": {name: became[name] for name in ("kept", *REASONS) if became[name]},
        "details": dict(Counter(why for why in book.why if why is not None and ":" in why)),
        "sources": dict(Counter(book.sources[i] for i in rows)),
        "stages": list(curated.stages),
        "splits": {name: book.splits.count(name) for name in NAMES},
        "axes": {axis: about(book, axis, labels, rows, offered, cfg)
                 for axis, labels in curated.axes.items()},
        "cross": cross(book, list(curated.axes), rows),
        "lengths": lengths([book.texts[i] for i in rows]),
        "examples": {reason: examples(book, reason) for reason in REASONS if became[reason]},
    }  # fmt: skip


def about(
    book: Book, axis: str, labels: Sequence[str], rows: Sequence[int], offered: Sequence[int],
    cfg: Curation,
) -> dict[str, Any]:  # fmt: skip
    """Counts of the labels of an axis, before and after sampling, what they lack, and who has
    given them."""
    before, after = (Counter(book.labels[axis][i] for i in own) for own in (offered, rows))
    names = (*labels, OTHER)
    floor = max(cfg.quota.floor, cfg.fill.floor)
    return {
        "before": {name: before[name] for name in names},
        "after": {name: after[name] for name in names},
        "gaps": gaps({name: after[name] for name in labels}, floor),
        "by": dict(Counter(book.by[axis][i] for i in rows)),
        "unsure": sum((book.sure[axis][i] or 0) < 1 for i in rows if book.by[axis][i] == "rule"),
    }


def cross(book: Book, axes: Sequence[str], rows: Sequence[int]) -> dict[str, dict[str, int]]:
    """Counts of the first two axes together."""
    if len(axes) < 2:
        return {}
    found: dict[str, dict[str, int]] = {}
    pairs = Counter((book.labels[axes[0]][i], book.labels[axes[1]][i]) for i in rows)
    for (first, second), n in sorted(pairs.items(), key=str):
        found.setdefault(str(first), {})[str(second)] = n
    return found


def lengths(texts: Sequence[str]) -> dict[str, int]:
    """How many texts have so many words."""
    names = [f"{a} to {b - 1}" for a, b in pairwise(WORDS)]
    names.append(f"{WORDS[-1]} or more")
    found = Counter(sum(len(text.split()) >= edge for edge in WORDS) - 1 for text in texts)
    return {name: found[i] for i, name in enumerate(names)}


def examples(book: Book, reason: str) -> list[Mapping[str, Any]]:
    """The first rows that were left out for it."""
    own = (i for i, why in enumerate(book.why) if why is not None and why.split(":")[0] == reason)
    return [
        {"text": book.texts[i], "why": book.why[i], "of": book.of[i], "likeness": book.likeness[i],
         "source": book.sources[i], "line": book.lines[i]}
        for i, _ in zip(own, range(EXAMPLES), strict=False)
    ]  # fmt: skip
