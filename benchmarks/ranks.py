"""How far a step by several processes is from that of one: `python -m benchmarks.ranks`.

Runs the tests of tests/equivalence/test_ranks.py that train each method for twenty steps by one,
two and four processes (gloo) and by one that accumulates, and writes the largest difference of any
weight, average or moment to `survive.rank_difference`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from benchmarks.common import claim, facts
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

COMMAND = "python -m benchmarks.ranks"
TEST = "tests/equivalence/test_ranks.py::test_ranks_and_accumulation_change_nothing"


@dataclass(eq=False)
class Differences:
    """A pytest plugin: what the tests have recorded, by recipe and by way of splitting a step."""

    found: dict[str, dict[str, float]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            recipe = report.nodeid.partition("[")[2].rstrip("]")
            self.found[recipe] = {name: float(str(v)) for name, v in report.user_properties}

    def largest(self) -> float:
        return max((v for each in self.found.values() for v in each.values()), default=math.nan)

    def note(self) -> str:
        each = (f"{recipe} {max(own.values(), default=math.nan):.1e}"
                for recipe, own in self.found.items())  # fmt: skip
        return f"n = methods, each split in three ways; largest of each: {', '.join(each)}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Several processes against one.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    seen = Differences()
    failed = pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", TEST], plugins=[seen])
    text, goal, _ = PLANNED["survive"]["rank_difference"]
    measured = Estimate(seen.largest(), math.nan, math.nan, 0, 0)
    record = claim(
        "rank_difference", text, measured, area="survive", made=facts(COMMAND, 1),
        n=len(seen.found), goal=goal, note=seen.note(),
    )  # fmt: skip
    print(f"{seen.note()}; wrote {claims.write([record], 'survive', args.results)}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
