"""The page of the doctor, from the numbers in its doctor.json and its pictures."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewstep.report.plots import COLOURS, COLOURS_DARK
from fewstep.runs import write_atomic

WORDS = {"pass": "passed", "warn": "warned", "fail": "failed", "skip": "not looked at"}


def write_page(facts: Mapping[str, Any], pictures: Mapping[str, Path], path: Path) -> Path:
    """One self-contained file without any script.

    pictures  PNG files by the check that they belong to
    """
    environment = Environment(
        loader=PackageLoader("fewstep.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    counts = Counter(row["state"] for row in facts["checks"])
    embedded = {
        name: f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
        for name, file in pictures.items()
    }
    text = environment.get_template("doctor.html.j2").render(
        facts=facts, counts=counts, words=WORDS, pictures=embedded, verdict=verdict(facts),
        colours=COLOURS, colours_dark=COLOURS_DARK,
    )  # fmt: skip
    write_atomic(path, text.encode())
    return path


def verdict(facts: Mapping[str, Any]) -> str:
    """What to do, in a sentence."""
    failed = [row for row in facts["checks"] if row["state"] == "fail"]
    warned = [row for row in facts["checks"] if row["state"] == "warn"]
    if failed:
        return f"Repair {failed[0]['check']} first: {failed[0]['evidence']}."
    if warned:
        return f"Nothing failed. Look at {', '.join(row['check'] for row in warned)}."
    return "Nothing is wrong that these checks can see."
