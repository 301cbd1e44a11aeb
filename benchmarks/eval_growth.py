"""Time and memory of `fewstep eval --suite quick` from 128 to 10,000 pictures.

    OMP_NUM_THREADS=1 python -m benchmarks.eval_growth --results results

Each size is a process of its own that draws (4 steps, engine fused, one thread), measures and
writes everything into a new folder; features are not cached. The exponent is the slope of log time
over log pictures between 1,200 and 10,000 pictures, where loading the model no longer hides the
growth; by processor time, since another process may have the core for a while. Writes
results/tables/eval_growth.json, docs/figures/eval_growth.png, measure.eval_growth_exponent and
measure.eval_quick_minutes. About fifteen minutes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.common import claim, facts, write_json
from matplotlib.figure import Figure

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

SEEDS = 16
PROMPTS = (8, 25, 75, 225, 625)
QUICK = (64, 4)
"""What the suite takes of its own."""


def run(prompts: int, seeds: int) -> dict[str, float]:
    """Seconds and peak memory of one evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable, "-m", "fewstep.cli", "eval", "shapes@4", "--suite", "quick",
            "--prompts", str(prompts), "--seeds", str(seeds), "--engine", "fused", "--threads", "1",
            "--out", f"{folder}/out",
        ]  # fmt: skip
        environment = {**os.environ, "HOME": folder}  # where features are cached
        start = time.perf_counter()
        child = os.posix_spawn(sys.executable, words, environment)
        _, status, used = os.wait4(child, 0)
        seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"the evaluation of {prompts} x {seeds} pictures failed")
    return {
        "pictures": prompts * seeds, "prompts": prompts, "seeds": seeds, "wall_seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024,
    }  # fmt: skip


def exponent(rows: list[dict[str, float]], key: str) -> float:
    late = [row for row in rows if row["pictures"] >= 1000]
    x, y = (np.log([row[k] for row in late]) for k in ("pictures", key))
    return float(np.polyfit(x, y, 1)[0])


def plot(rows: list[dict[str, float]], path: Path) -> None:
    figure = Figure(figsize=(7, 3), layout="constrained")
    pictures = [row["pictures"] for row in rows]
    left, right = figure.subplots(1, 2)
    for axes, key, label in (
        (left, "cpu_seconds", "seconds of one core"), (right, "peak_mb", "peak memory, MB"),
    ):  # fmt: skip
        axes.plot(pictures, [row[key] for row in rows], "o-", color="#2563eb")
        axes.set(xscale="log", xlabel="pictures", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.2)
    left.set(yscale="log", ylim=(None, None))
    left.plot(pictures, [rows[-1]["cpu_seconds"] * p / pictures[-1] for p in pictures], "--",
              color="#8a8f98", label="in proportion")  # fmt: skip
    left.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="How evaluation grows.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    quick = run(*QUICK)
    rows: list[dict[str, float]] = []
    for prompts in PROMPTS:
        rows.append(run(prompts, SEEDS))
        print(rows[-1], flush=True)
    write_json(args.results / "tables" / "eval_growth.json", {"quick": quick, "rows": rows})
    plot(rows, args.docs / "figures" / "eval_growth.png")
    slope = exponent(rows, "cpu_seconds")
    command = "OMP_NUM_THREADS=1 python -m benchmarks.eval_growth --results results"
    made = facts(command, 1)
    memory = ", ".join(f"{row['pictures']:.0f}: {row['peak_mb']:.0f} MB" for row in rows)

    def plain(value: float) -> Estimate:
        return Estimate(value, math.nan, math.nan, 0, 0)

    found = [
        claim(
            "eval_growth_exponent", "growth of the time of `eval --suite quick` with its pictures",
            plain(slope), made=made, n=len(rows), goal="<= 1.1", area="measure",
            note=f"n = sizes, one run each; slope from 1,200 to 10,000 pictures of processor time "
            f"(by the clock {exponent(rows, 'wall_seconds'):.2f}); peak memory {memory}",
        ),
        claim(
            "eval_quick_minutes", "minutes of `fewstep eval shapes@4 --suite quick`",
            plain(quick["wall_seconds"] / 60), made=made, n=1, unit="min", area="measure",
            note=f"{QUICK[0]} prompts x {QUICK[1]} seeds, engine fused, nothing cached; "
            f"{quick['cpu_seconds']:.0f} s of processor time, peak {quick['peak_mb']:.0f} MB",
        ),
    ]  # fmt: skip
    print(f"exponent {slope:.3f}; wrote {claims.write(found, 'measure', args.results)}")


if __name__ == "__main__":
    main()
