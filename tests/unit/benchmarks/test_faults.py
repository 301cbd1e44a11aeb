"""The table of planted faults names the tests that show them, and counts what passed."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.faults import FAULTS, Outcomes, marked, outcome, passed, record, table

from fewstep import claims

ROOT = Path(__file__).parents[3]


def test_the_page_names_the_marked_tests_and_no_others() -> None:
    """If this fails: python -m benchmarks.faults."""
    rows = re.findall(r"^\| (\d+) \|.*$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE)
    assert [int(n) for n in rows] == list(FAULTS) == list(range(1, 21))
    for row in (ROOT / "docs/faults.md").read_text().splitlines():
        if found := re.match(r"\| (\d+) \|", row):
            named = set(re.findall(r"`(tests/[^`]*)`", row))
            assert named == marked(ROOT)[int(found[1])], row[:60]


def test_every_fault_has_a_test() -> None:
    assert [n for n, tests in marked(ROOT).items() if not tests] == []


def test_what_counts_as_passed(tmp_path: Path) -> None:
    cases = {f"t.py::a[{n}]": [n, 20] for n in range(1, 20)}
    found = Outcomes(numbers=cases, ended=dict.fromkeys(cases, "passed"))
    assert all(passed(found.of(n)) for n in FAULTS)
    found.ended["t.py::a[3]"] = "skipped"
    found.numbers["t.py::b"] = [7]  # collected, and never run
    assert [n for n in FAULTS if not passed(found.of(n))] == [3, 7, 20]
    del found.numbers["t.py::a[4]"]
    assert outcome(found.of(4)) == "**no test**"
    assert outcome(found.of(20)) == "**1 of 18 not**: a[3] skipped"
    assert "| `t.py::a`<br>`t.py::b` | **1 of 2 not**: b not run |" in table(found)
    assert record(found, tmp_path) == 16
    counted, resumed = claims.read(tmp_path / "survive.json")
    assert (counted.value, counted.n, counted.met) == (16, 20, False)
    assert "4: no test" in counted.note
    assert (resumed.value, resumed.n, resumed.met) == (0, 0, False)


def test_marks_are_read_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text(
        "@pytest.mark.fault(3, 4)\n@pytest.mark.slow\ndef test_b(): ...\ndef test_c(): ...\n"
    )
    assert {n: tests for n, tests in marked(tmp_path).items() if tests} == {
        3: {"tests/test_a.py::test_b"}, 4: {"tests/test_a.py::test_b"}
    }  # fmt: skip
