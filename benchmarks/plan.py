"""How far a plan is from the step that it plans: `python -m benchmarks.plan`.

Runs the tests of tests/contract/test_rehearsal.py that hold plans of LADD, SDA and D-OPSD to the
same steps with numbers on the CPU, and writes the largest differences of operations and of peak
memory to `fit.plan_flops_error` and `fit.plan_memory_error`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.common import claim, facts
from benchmarks.ranks import Differences
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

COMMAND = "python -m benchmarks.plan"
TEST = "tests/contract/test_rehearsal.py::test_operations_are_counted_exactly_and_bytes_nearly"
RECORDS = {"flops": "plan_flops_error", "bytes": "plan_memory_error"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plans against what they plan.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    seen = Differences()
    failed = pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", TEST], plugins=[seen])
    records = []
    for kind, name in RECORDS.items():
        each = {case: own[kind] for case, own in seen.found.items() if kind in own}
        text, goal, _ = PLANNED["fit"][name]
        most = max(each.values(), default=math.nan)
        told = ", ".join(f"{case} {value:.2g}" for case, value in each.items())
        records.append(claim(
            name, text, Estimate(most, math.nan, math.nan, 0, 0), area="fit",
            made=facts(COMMAND, 1), n=len(each), goal=goal, note=f"n = experiments; {told}",
        ))  # fmt: skip
    print(f"wrote {claims.write(records, 'fit', args.results)}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
