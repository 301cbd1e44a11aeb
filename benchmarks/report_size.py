"""The size of a run's report.

    python -m benchmarks.report_size runs/ladd_shapes --results results

The run must have been evaluated. Writes the record measure.report_megabytes.
"""

from __future__ import annotations

import argparse
import math
import shlex
import tempfile
import time
from pathlib import Path

from benchmarks.common import claim, facts

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.report.page import write_report


def main() -> None:
    parser = argparse.ArgumentParser(description="The size of a run's report.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(args.run, path=Path(folder) / "report.html")
        megabytes = page.stat().st_size / 1e6
    seconds = time.perf_counter() - start
    command = f"python -m benchmarks.report_size {shlex.quote(str(args.run))} --results results"
    samples = len(list((args.run / "samples").glob("*.png")))
    found = claim(
        "report_megabytes", "size of the report of an evaluated run of ladd_shapes",
        Estimate(megabytes, math.nan, math.nan, 0, 0), made=facts(command, 1), n=1, unit="MB",
        goal="<= 5", area="measure",
        note=f"{samples} sample strips, of which eight are shown; written in {seconds:.1f} s",
    )  # fmt: skip
    print(f"{megabytes:.2f} MB; wrote {claims.write([found], 'measure', args.results)}")


if __name__ == "__main__":
    main()
