"""`fewstep prompts`: files of prompts in, lists, tables and a page out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from fewstep.cli.verbs import PromptsRequest
from fewstep.curation.config import Source
from fewstep.curation.outputs import write
from fewstep.curation.pipeline import curate
from fewstep.data.cache import alone
from fewstep.errors import UserError
from fewstep.train.progress import ProgressLines


def prompts(request: PromptsRequest, command: str, console: Console) -> int:
    """Curate, write, and tell what became of the rows."""
    from fewstep.report.prompts import write_page  # matplotlib takes a second to import

    if not request.files:
        raise UserError("prompts takes at least one file; see `fewstep prompts --help`")
    out = request.out or Path("prompts") / request.files[0].stem
    check_own(out)
    source = Source(
        files=request.files, field=request.field, against=request.against,
        taxonomy=request.taxonomy, embed=request.embed,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        with ProgressLines(console) as told:
            curated = curate(source, request.curation, out, told)
        facts = write(curated, request.curation, out, command)
        page = write_page(facts, out / "report.html")
    for line in summary(facts):
        console.print(line)
    console.print(f"wrote {out}: train.txt, val.txt, test.txt, prompts.parquet, dropped.parquet")
    console.print(f"wrote {page}")
    return 0


def check_own(out: Path) -> None:
    """UserError where something else lies in the folder."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "stages").is_dir():
        raise UserError(
            f"{out} holds files that `fewstep prompts` has not made; choose another --out"
        )


def summary(facts: dict[str, Any]) -> list[str]:
    """What became of the rows, a line each."""
    lines = [f"{facts['read']} rows were read"]
    lines += [f"  {count:>9} {name}" for name, count in facts["became"].items()]
    for axis, own in facts["axes"].items():
        lacking = ", ".join(f"{label} lacks {n}" for label, n in own["gaps"].items())
        told = f"{axis}: {own['after']['other']} are other"
        lines.append(f"{told}; {lacking}" if lacking else told)
    return lines
