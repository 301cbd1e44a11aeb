"""What `fewstep eval` prints of an evaluation: figures, comparisons, notes and what was written."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.report.demo_run import FEW, FULL, NOTES, STUDENT, Invented, demo_evaluation

from fewstep.cli.figures import show


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_evaluation(tmp_path_factory.mktemp("runs") / "quick", Invented())


def shown(directory: Path, width: int) -> list[str]:
    """The lines that a console of this width, which is no terminal, is given."""
    file = io.StringIO()
    show(directory, Console(file=file, width=width, highlight=False, soft_wrap=True, markup=False))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def paragraphs(lines: list[str]) -> list[list[str]]:
    return [block.splitlines() for block in "\n".join(lines).split("\n\n")]


def test_a_line_for_each_model_with_value_and_interval(directory: Path) -> None:
    table, compared, rest = paragraphs(shown(directory, 200))
    assert table[0].split() == ["KID", "Adherence", "Layout", "diversity", "Sharpness", "Fine",
                                "detail"]  # fmt: skip
    assert table[1].startswith("(95 % interval)") and table[1].count("1 is the truth") == 3
    assert [line.split("  ")[0] for line in table[2:]] == ["True pictures", FULL, FEW, STUDENT]
    assert " ".join(table[4].split()) == (
        f"{FEW} 0.0520 (0.0470 to 0.0570) 72.0 % (69.9 to 74.1) 0.910 (0.875 to 0.945) "
        "0.710 (0.696 to 0.724) 0.504 (0.464 to 0.544)"
    )
    assert [" ".join(line.split()) for line in compared] == [
        "compared",
        "Share of the KID gap closed 85.4 % (82.2 to 88.1) reached (goal 80 %)",
        "Adherence, student minus teacher at full steps -1.9 points (-3.5 to -0.4) worse",
        "Layout diversity, student minus teacher at full steps -0.130 (-0.170 to -0.090) lower",
    ]
    assert rest == [
        f"note: {NOTES[0]}",
        *(f"wrote {directory / name}" for name in ("evaluation.json", "grids/fixed.png", "sheets")),
    ]


@pytest.mark.parametrize(("width", "tables"), [(60, 5), (80, 3), (120, 2)])
def test_it_fits_the_width_and_loses_nothing(directory: Path, width: int, tables: int) -> None:
    lines = shown(directory, width)
    assert max(len(line) for line in lines if not line.startswith("wrote")) <= width
    assert len([line for line in lines if line.startswith("True pictures")]) == tables
    number = re.compile(r"\S+( %| points)? \(\S+ to \S+\)")
    narrow, wide = ([found[0] for found in number.finditer("\n".join(of))]
                    for of in (lines, shown(directory, 200)))  # fmt: skip
    assert sorted(narrow) == sorted(wide) and len(wide) == 4 * 5 + 3
    assert f"wrote {directory / 'evaluation.json'}" in lines  # a path is never broken


def test_every_encoding_has_the_characters(directory: Path) -> None:
    "\n".join(shown(directory, 80)).encode("ascii")


def test_what_has_no_number_or_no_interval_is_told_so(directory: Path, tmp_path: Path) -> None:
    own = demo_evaluation(tmp_path / "own", Invented())
    record = json.loads((own / "evaluation.json").read_text())
    record["rows"][1]["metrics"]["kid"] |= {"value": None, "low": None, "high": None}
    record["rows"][2]["metrics"]["kid"] |= {"low": None, "high": None}
    del record["rows"][3]["metrics"]["kid"]
    record["comparisons"][0]["estimate"] |= {"value": None, "low": None, "high": None}
    record["notes"] = []
    (own / "evaluation.json").write_text(json.dumps(record))
    table, compared, rest = paragraphs(shown(own, 200))
    kids = [line.removeprefix(name).split()[0] for line, name in
            zip(table[2:], ("True pictures", FULL, FEW, STUDENT), strict=True)]  # fmt: skip
    assert kids == ["0.0000", "n/a", "0.0520", "n/a"]
    assert compared[1].split()[-5:] == ["n/a", "undefined", "(goal", "80", "%)"]
    assert rest[0].startswith("wrote")


def test_an_evaluation_without_comparisons_and_main_metrics(tmp_path: Path) -> None:
    own = demo_evaluation(tmp_path / "own", Invented())
    record = json.loads((own / "evaluation.json").read_text())
    record["comparisons"] = []
    for metric in record["metrics"].values():
        metric["main"] = False
    (own / "evaluation.json").write_text(json.dumps(record))
    assert shown(own, 80)[0].startswith("note: ")
