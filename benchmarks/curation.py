"""Curation of lists with planted faults: what is found, what is lost, time and memory.

    python -m benchmarks.curation --results results [--sizes 10000 100000 1000000]

Each size is a process of its own: `fewstep prompts` on a list in which 8 % of the prompts are
repeated word for word (in another case or punctuation), 8 % with one word changed, 1 % give an
evaluation prompt away (of 1,000), and 10 are of a kind that nothing else has, which a floor of 10
should keep where the quota takes half. Recall is the share of planted rows that are left out for
the planted reason (a repeat of a repeat counts for either; of two leaks of one prompt the second
is left out as a repeat), precision the share of rows left out as a repeat or leak that were
planted. Writes results/tables/curation.json, docs/curation.md and the records survive.curation_*.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from benchmarks import pages
from benchmarks.common import claim, facts, write_json
from benchmarks.curation_lists import PLANTED, RARE_COUNT, planted, write
from benchmarks.parser_curve import wilson
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

REPEATS = ("repeats", "nearly repeats")
MILLION = 1_000_000


def run(n: int) -> dict[str, Any]:
    """Time, memory and what became of the rows of one list."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = planted(n, seed=0)
        write(made, folder)
        kinds = len(made.lines) // 2
        words = [
            sys.executable, "-m", "fewstep.cli", "prompts", str(folder / "prompts.txt"),
            "--against", str(folder / "evaluation.txt"), "--out", str(folder / "out"),
            "--quota.total", str(kinds), "--quota.floor", str(RARE_COUNT),
        ]  # fmt: skip
        began = time.perf_counter()
        child = os.posix_spawn(sys.executable, words, {**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, used = os.wait4(child, 0)
        seconds = time.perf_counter() - began
        if status:
            raise RuntimeError(f"fewstep prompts failed on {n} lines")
        became = became_of(folder / "out", len(made.lines))
        stages = json.loads((folder / "out" / "report.json").read_bytes())["stages"]
    return {
        "lines": len(made.lines), "wall_seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024,
        "stages": {stage["name"]: stage["seconds"] for stage in stages},
        **found(made.fate, became),
    }  # fmt: skip


def became_of(out: Path, n: int) -> list[str]:
    """For each line of the list, in order: kept, or why it was left out."""
    became = ["kept"] * n
    for row in pq.read_table(out / "dropped.parquet", columns=["line", "why"]).to_pylist():
        became[row["line"] - 1] = row["why"].split(":")[0]
    return became


def found(fate: Sequence[str], became: Sequence[str]) -> dict[str, Any]:
    """Planted rows that were found, and rows left out that were not planted."""
    pairs = Counter(
        (planned, "kept" if own == "over quota" and planned != "rare" else own)
        for planned, own in zip(fate, became, strict=True)
    )
    counts = Counter(fate)
    caught = {
        name: sum(k for (f, b), k in pairs.items()
                  if f == name and b in (REPEATS if name in REPEATS else PLANTED))
        for name in PLANTED
    }  # fmt: skip
    left_out = sum(k for (_, b), k in pairs.items() if b in PLANTED)
    rightly = sum(k for (f, b), k in pairs.items() if b in PLANTED and f in PLANTED)
    return {
        "planted": {name: counts[name] for name in PLANTED}, "caught": caught,
        "left_out": left_out, "rightly": rightly,
        "rare": counts["rare"], "rare_kept": pairs["rare", "kept"],
    }  # fmt: skip


def share(part: int, whole: int) -> Estimate:
    return Estimate(part / whole, *wilson(part, whole), whole, 1) if whole else Estimate(
        math.nan, math.nan, math.nan, 0, 0
    )  # fmt: skip


def page(rows: Sequence[dict[str, Any]]) -> str:
    titles = ["lines", *(f"{name} found" for name in PLANTED), "precision", "rare kind kept",
              "minutes of processor time", "peak memory"]  # fmt: skip
    cells = [
        [f"{row['lines']:,}",
         *(pages.percent(share(row["caught"][name], row["planted"][name])) for name in PLANTED),
         pages.percent(share(row["rightly"], row["left_out"])),
         f"{row['rare_kept']} of {row['rare']}", f"{row['cpu_seconds'] / 60:.2f}",
         f"{row['peak_mb']:,.0f} MB"]
        for row in rows
    ]  # fmt: skip
    stages = list(rows[-1]["stages"])
    return (
        "# Curation of prompts with planted faults\n\n"
        "What `fewstep prompts` finds in lists of made-up prompts: 8 % are repeated in another "
        "case or punctuation, 8 % with one word changed, 1 % give one of 1,000 evaluation prompts "
        "away (equal, respelled, reworded, or with more around it), and 10 are of a kind that "
        "nothing else has, where half of the prompts are taken with a floor of 10 a kind. In "
        "brackets 95 % (Wilson).\n\n" + pages.markdown(titles, cells)
        + "\nSeconds of each stage by the clock:\n\n"
        + pages.markdown(["lines", *stages], [
            [f"{row['lines']:,}", *(f"{row['stages'][name]:.1f}" for name in stages)]
            for row in rows
        ])
    )  # fmt: skip


def records(rows: Sequence[dict[str, Any]], made: dict[str, Any]) -> list[claims.Claim]:
    last = rows[-1]
    nothing = math.nan
    caught, there = sum(last["caught"].values()), sum(last["planted"].values())
    each = ", ".join(f"{n} {last['caught'][n]} of {last['planted'][n]}" for n in PLANTED)
    growth = ", ".join(
        f"{r['lines']:,}: {r['cpu_seconds']:.0f} s, {r['peak_mb']:,.0f} MB" for r in rows
    )
    seconds = Estimate(last["cpu_seconds"] * MILLION / last["lines"], nothing, nothing, 0, 0)
    right = share(last["rightly"], last["left_out"])
    stated = (
        ("curation_seconds_per_million", seconds, last["lines"], "s", f"n = rows; {growth}"),
        ("curation_recall", share(caught, there), there, "", f"n = planted rows; {each}"),
        ("curation_precision", right, last["left_out"], "", "n = rows left out"),
    )
    return [
        claim(name, PLANNED["survive"][name][0], e, made=made, n=n, unit=unit, note=note,
              area="survive")
        for name, e, n, unit, note in stated
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Curation of lists with planted faults.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, MILLION])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(words)
    command = shlex.join(["python", "-m", "benchmarks.curation", *words])
    rows: list[dict[str, Any]] = []
    for n in sorted(args.sizes):
        rows.append(run(n))
        print(json.dumps(rows[-1]), flush=True)
    made = facts(command, 1)
    write_json(args.results / "tables" / "curation.json", {"schema": 1, **made, "rows": rows})
    pages.write_text(args.docs / "curation.md", command, page(rows))
    print(f"wrote {claims.write(records(rows, made), 'survive', args.results)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
