"""Twenty faults that are planted on purpose: `python -m benchmarks.faults`.

Runs the tests that are marked `fault(n)` and no others, and writes which of them show what must
happen to docs/faults.md, how many of the twenty have tests that all pass to
`survive.faults_passed`, and of how many methods a resumed run is the uninterrupted one bit for bit
to `survive.resume_bitwise`. A skipped test has shown nothing, and so it has not passed.
"""

from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from benchmarks.common import claim, facts

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.runs import write_atomic

COMMAND = "python -m benchmarks.faults"
RESUME = "tests/cli/test_method_resume.py::test_killed_and_started_again_is_the_same_run"
"""Has a case for each method of `survive.resume_bitwise`."""

# ruff: noqa: E501
FAULTS: dict[int, tuple[str, str]] = {
  1: ("`kill -9` at every file boundary of a save", "the newest complete checkpoint is used and training goes on bit for bit; the partial one is named and ignored"),
  2: ("killed after step k, started again by the same command", "weights, both optimizers, average, order, noise and rows of metrics are those of a run that was not, bit for bit"),
  3: ("resumed with another number of processes", "the same samples in the same order; weights equal up to the order of sums"),
  4: ("SIGTERM to one of several processes while samples are drawn, while training, in a preview, in a save", "all save the same step and end with the code of an interrupted command; nobody hangs"),
  5: ("disk full during a save", "older checkpoints are as they were, the temporary one is gone, one sentence"),
  6: ("a flipped bit in a file of samples", "named with the file, never used"),
  7: ("a file of samples that is truncated, empty or all zeros", "named when it is opened; only that file is made again"),
  8: ("NaN or infinity in one sample's latent or condition", "named by id before the forward pass; the run stops"),
  9: ("NaN in the loss of one phase on one of two processes", "both skip the same update, count it, and stop after `loop.max_skips`; nothing of it in weights, optimizers or average"),
  10: ("trained weights in bfloat16, in which small steps round away", "refused when the optimizer is built"),
  11: ("an average in bfloat16, or one too slow for float32", "refused; averages are float32 and move"),
  12: ("activation checkpointing that the engine cannot do", "refused in one sentence; where it can, blocks are counted that were computed again"),
  13: ("an adapter in one of two trees between forward and recomputation", "gradients are those without checkpointing"),
  14: ("a teacher's parameter that requires gradients, or one that changes while training", "refused at the start; named at the next checkpoint, which is not written"),
  15: ("micro-batches of one with hinge; latents of another scale or shift", "refused before the first step, with the statistics"),
  16: ("samples of another model, guidance, grid or engine", "refused field by field"),
  17: ("a pickle as checkpoint, adapter, samples or model; a path in a manifest that leaves its directory", "refused, never executed, never followed"),
  18: ("two runs in one directory; the lock of a dead process; a clock that jumps back", "the second is refused, a dead lock is none, no time is negative"),
  19: ("prompts that are empty, too long, not UTF-8, twice there, emoji or right-to-left", "told line by line; good lines go on, each once"),
  20: ("evaluation while training; a viewer that fails or hangs; a picture or shard that disappears", "the next step is the same bit for bit; metrics are in their file; an end within a bounded time"),
}  # fmt: skip


@dataclass(eq=False)
class Outcomes:
    """A pytest plugin: runs the marked tests alone, and keeps how each case ended."""

    numbers: dict[str, list[int]] = field(default_factory=dict)
    """Of each case."""
    ended: dict[str, str] = field(default_factory=dict)
    """ "passed", "failed" or "skipped"."""

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        marked = {
            item: [n for mark in item.iter_markers("fault") for n in mark.args] for item in items
        }
        config.hook.pytest_deselected(items=[item for item in items if not marked[item]])
        items[:] = [item for item in items if marked[item]]
        self.numbers |= {item.nodeid: marked[item] for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed" or (
            report.when == "call" and report.nodeid not in self.ended
        ):
            self.ended[report.nodeid] = report.outcome

    def of(self, number: int) -> dict[str, str]:
        """How the cases that show this fault ended."""
        return {
            node: self.ended.get(node, "not run")
            for node, numbers in self.numbers.items()
            if number in numbers
        }


def passed(cases: Mapping[str, str]) -> bool:
    return bool(cases) and set(cases.values()) == {"passed"}


def marked(root: Path) -> dict[int, set[str]]:
    """The tests under `root`/tests that are marked, by number, as "path::function"."""
    found: dict[int, set[str]] = {n: set() for n in FAULTS}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for n in faults_of(node):
                    found[n].add(f"{path.relative_to(root).as_posix()}::{node.name}")
    return found


def faults_of(test: ast.FunctionDef) -> Iterator[int]:
    """The numbers in its `@pytest.mark.fault(...)`."""
    for call in test.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(argument) for argument in call.args)


def outcome(cases: Mapping[str, str]) -> str:
    """The cell of the table."""
    if not cases:
        return "**no test**"
    bad = [f"{node.rpartition('::')[2]} {how}" for node, how in cases.items() if how != "passed"]
    return f"{len(cases)} passed" if not bad else f"**{len(bad)} of {len(cases)} not**: {bad[0]}"


def table(outcomes: Outcomes) -> str:
    lines = ["| # | Fault | What must happen | Tests | Cases |", "|---|---|---|---|---|"]
    for n, (fault, expected) in FAULTS.items():
        cases = outcomes.of(n)
        tests = "<br>".join(
            f"`{test}`" for test in sorted({node.partition("[")[0] for node in cases})
        )
        lines.append(f"| {n} | {fault} | {expected} | {tests} | {outcome(cases)} |")
    return "\n".join(lines)


PAGE = """# Faults

What is planted, what must happen, and the tests that show it with real processes and real files. The table is written by `{command}`, which runs these tests; {value} of {count} pass.

{table}

- A sample that is not finite stops the run and is not skipped: it was finite when it was written, under a checksum, so the data or the machine are broken and the sample comes again in every epoch; to skip it would be to train on a set that nobody chose.
- Samples are read in the training process, so there is no loader that could be killed or hang: number 20 takes away what it reads.
- A run that cannot save stops. Its newest checkpoint is whole, and the same command goes on from it once there is space.
"""


def record(outcomes: Outcomes, results: Path) -> int:
    """Write both claims; returns how many of the twenty pass."""
    good = [n for n in FAULTS if passed(outcomes.of(n))]
    short = {n: outcome(outcomes.of(n)).replace("*", "") for n in FAULTS if n not in good}
    cases = sum(how == "passed" for how in outcomes.ended.values())
    resumed = [how for node, how in outcomes.ended.items() if node.partition("[")[0] == RESUME]
    made = facts(COMMAND, 1)
    said = "; ".join(f"{n}: {why}" for n, why in short.items())
    claims.write(
        [
            claim(
                "faults_passed", "of the twenty fault tests, how many pass", sure(len(good)),
                area="survive", made=made, n=len(FAULTS), goal=">= 20",
                note=f"n = faults; {cases} cases passed" + (f"; not: {said}" if said else ""),
            ),
            claim(
                "resume_bitwise",
                "methods whose resumed run equals the uninterrupted one bit for bit, of 3",
                sure(resumed.count("passed")), area="survive", made=made, n=len(resumed),
                goal=">= 3", note="n = methods: LADD, SDA, D-OPSD",
            ),
        ],
        "survive", results,
    )  # fmt: skip
    return len(good)


def sure(count: int) -> Estimate:
    """A count has no interval."""
    return Estimate(count, math.nan, math.nan, 0, 0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the tests of planted faults.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(argv)
    outcomes = Outcomes()
    pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", "tests"], plugins=[outcomes])
    value = record(outcomes, args.results)
    page = PAGE.format(command=COMMAND, value=value, count=len(FAULTS), table=table(outcomes))
    write_atomic(args.docs / "faults.md", page.encode())
    print(f"{value} of {len(FAULTS)}; wrote {args.docs / 'faults.md'}")
    return 0 if value == len(FAULTS) else 1


if __name__ == "__main__":
    raise SystemExit(main())
