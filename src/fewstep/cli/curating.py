"""`fewstep prompts`: files of prompts in, lists, tables and a page out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fewstep.cli.verbs import PromptsRequest
from fewstep.curation.config import Source
from fewstep.curation.outputs import write
from fewstep.curation.pipeline import curate
from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.runs import write_atomic
from fewstep.train.progress import ProgressLines

MARK = ".prompts.json"
"""Says that the folder is of `fewstep prompts`, and of which files."""


def prompts(request: PromptsRequest, command: str, console: Console) -> int:
    """Curate, write, and tell what became of the rows."""
    from fewstep.report.prompts import write_page  # matplotlib takes a second to import

    if not request.files:
        raise UserError("prompts takes at least one file; see `fewstep prompts --help`")
    out = request.out or Path("prompts") / request.files[0].stem
    check_own(out, [*request.files, *request.against])
    source = Source(
        files=request.files, field=request.field, against=request.against,
        against_field=request.against_field, taxonomy=request.taxonomy, embed=request.embed,
    )  # fmt: skip
    with alone(out):
        own = json.dumps({"files": sorted(str(path.absolute()) for path in request.files)})
        write_atomic(out / MARK, own.encode() + b"\n")
        with ProgressLines(console) as told:
            curated = curate(source, request.curation, out, told)
        facts = write(curated, request.curation, out, command)
        page = write_page(facts, out / "report.html")
    for line in summary(facts):
        console.print(line)
    console.print(f"wrote {out}: train.txt, val.txt, test.txt, prompts.parquet, dropped.parquet")
    console.print(f"wrote {page}")
    return 0


def check_own(out: Path, files: Sequence[Path]) -> None:
    """UserError where something else lies in the folder: other files, lists that were made from
    other files, or what is to be read."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; choose another --out")
    if inside := [path for path in files if out.absolute() in path.absolute().parents]:
        raise UserError(f"{inside[0]} lies in {out}, where lists are written; choose another --out")
    if not out.is_dir() or not any(path.name != ".lock" for path in out.iterdir()):
        return
    try:
        before = set(json.loads((out / MARK).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{out} holds files that `fewstep prompts` has not made; choose another --out"
        ) from None
    if before.isdisjoint(str(path.absolute()) for path in files):
        raise UserError(
            f"{out} was made from other files ({', '.join(sorted(before))}); choose another --out"
        )


def summary(facts: dict[str, Any]) -> list[str]:
    """What became of the rows, a line each."""
    made = f", {facts['filled']} prompts were made" if facts["filled"] else ""
    lines = [f"{facts['read']} rows were read{made}"]
    lines += [f"  {count:>9} {name}" for name, count in facts["became"].items()]
    for axis, own in facts["axes"].items():
        lacking = ", ".join(f"{label} lacks {n}" for label, n in own["gaps"].items())
        told = f"{axis}: {own['after']['other']} are other"
        lines.append(f"{told}; {lacking}" if lacking else told)
    return lines
