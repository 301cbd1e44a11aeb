"""The page of a curated list of prompts, from the numbers in its report.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewstep.report.plots import COLOURS, COLOURS_DARK
from fewstep.runs import write_atomic


def write_page(facts: Mapping[str, Any], path: Path) -> Path:
    """One self-contained file without any script."""
    environment = Environment(
        loader=PackageLoader("fewstep.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["grouped"] = grouped
    text = environment.get_template("prompts.html.j2").render(
        facts=facts, kept=facts["became"].get("kept", 0), heat=heat(facts["cross"]),
        most={axis: max(1, *own["before"].values()) for axis, own in facts["axes"].items()},
        longest=max(1, *facts["lengths"].values()),
        colours=COLOURS, colours_dark=COLOURS_DARK,
    )  # fmt: skip
    write_atomic(path, text.encode())
    return path


def grouped(n: int) -> str:
    """1234567 -> "1 234 567", with spaces that do not break."""
    return f"{n:,}".replace(",", "\u00a0")


def heat(cross: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Rows, columns and the largest count of a table of two axes."""
    columns = sorted({name for row in cross.values() for name in row})
    most = max([1, *(n for row in cross.values() for n in row.values())])
    return {"columns": columns, "rows": cross, "most": most}
