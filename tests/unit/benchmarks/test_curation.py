"""Planted lists are what they say, what is found is counted right, and a small run finds all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from benchmarks import curation
from benchmarks.curation_lists import ALIKE, RARE_COUNT, planted, stretches

from fewstep import claims
from fewstep.curation.clean import key
from fewstep.curation.likeness import jaccard


def test_planted_rows_are_what_they_say() -> None:
    made = planted(2000, seed=1)
    counts = Counter(made.fate)
    assert 1900 < len(made.lines) < 2100 and counts["rare"] == RARE_COUNT
    assert 100 < counts["repeats"] < 200 and 100 < counts["nearly repeats"] < 200
    assert planted(2000, seed=1) == made != planted(2000, seed=2)
    before: list[str] = []
    for line, fate in zip(made.lines, made.fate, strict=True):
        own = key(line)
        if fate == "repeats":
            assert own in before[-3:]
        elif fate == "nearly repeats":
            assert max(jaccard(own, other) for other in before[-3:]) >= ALIKE
        before.append(own)
    assert len(stretches("abc")) == 1 and stretches("a, b-c") == stretches("A B C")


def test_what_is_found_is_counted_by_what_was_planted() -> None:
    fate = [
        "kept",
        "repeats",
        "repeats",
        "nearly repeats",
        "leaks",
        "leaks",
        "rare",
        "rare",
        "kept",
    ]
    became = ["over quota", "repeats", "kept", "repeats", "leaks", "nearly repeats", "kept",
              "over quota", "repeats"]  # fmt: skip
    assert curation.found(fate, became) == {
        "planted": {"repeats": 2, "nearly repeats": 1, "leaks": 2},
        "caught": {"repeats": 1, "nearly repeats": 1, "leaks": 2},
        "left_out": 5, "rightly": 4, "rare": 2, "rare_kept": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_a_small_list_end_to_end(tmp_path: Path) -> None:
    places = [f"--{name}={tmp_path / name}" for name in ("results", "docs")]
    assert curation.main(["--sizes", "8000", *places]) == 0
    [row] = json.loads((tmp_path / "results/tables/curation.json").read_text())["rows"]
    assert row["caught"]["repeats"] == row["planted"]["repeats"] > 400
    assert row["rightly"] == row["left_out"] and row["rare_kept"] == row["rare"] == RARE_COUNT
    assert row["caught"]["nearly repeats"] >= 0.98 * row["planted"]["nearly repeats"]
    stated = {c.id: c for c in claims.read(tmp_path / "results/survive.json")}
    assert stated["survive.curation_precision"].value == 1.0
    assert stated["survive.curation_seconds_per_million"].n == row["lines"]
    assert "100.0 %" in (tmp_path / "docs/curation.md").read_text()
