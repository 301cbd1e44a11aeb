"""`make demo` and `make test` as a new user meets them: a fresh clone, no virtual environment.

    python -m benchmarks.fresh_clone demo|test --results results      5 to 15 minutes each

Writes spine.demo_minutes or spine.test_minutes. The clone is of the committed state.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.common import claim, facts

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

GOALS = {"demo": "<= 10", "test": "<= 15"}


def minutes(target: str) -> float:
    """Wall minutes of `make target` in a fresh clone; CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "fewstep"
        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        # a cache of its own: the demo must compute its teacher samples
        environment["HOME"] = folder
        start = time.monotonic()
        subprocess.run(["make", target], cwd=clone, env=environment, check=True)
        return (time.monotonic() - start) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description="make demo or make test in a fresh clone.")
    parser.add_argument("target", choices=sorted(GOALS))
    parser.add_argument("--results", type=Path, help="folder to write the record to")
    args = parser.parse_args()
    taken = minutes(args.target)
    print(f"make {args.target} took {taken:.1f} minutes in a fresh clone")
    if args.results is None:
        return
    record = claim(
        f"{args.target}_minutes",
        f"wall minutes of `make {args.target}` in a fresh clone, installation included",
        Estimate(taken, math.nan, math.nan, 0, 0),
        made=facts(
            f"python -m benchmarks.fresh_clone {args.target} --results results",
            os.cpu_count() or 1,
        ),
        n=1, goal=GOALS[args.target], unit="min",
        note="one run, packages from a local mirror",
    )  # fmt: skip
    print(f"wrote {claims.write([record], 'spine', args.results)}")


if __name__ == "__main__":
    main()
