"""Runs that are made to collapse: when that is seen, by invented results; and real ones, tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import collapse
from benchmarks.collapse_faults import FAULTS, HEALTHY
from benchmarks.collapse_table import cured, first_alarm, kid_shows, records
from benchmarks.study_plan import changed

from fewstep.recipes import RECIPES

MADE = {"command": "x", "hardware": "y", "versions": {}, "date": "2026-12-01"}


def result(
    fault: str, seed: int = 0, *, alarm: int | None = None,
    low: tuple[float, ...] = (0, -1, -1, -1), kid: float = 0.02, back: bool = False,
) -> dict[str, Any]:  # fmt: skip
    rows = [{"step": 10 * i, "kid": 0.03, "more": x, "low": x, "high": 1.0}
            for i, x in enumerate(low)]  # fmt: skip
    alarms = [] if alarm is None else [
        {"step": alarm + 10, "name": "looks", "sign": "detail", "back_to": None},
        {"step": alarm, "name": "far", "sign": "away", "back_to": 10 if back else None},
    ]  # fmt: skip
    rows[-1]["kid"] = kid
    return {
        "fault": fault, "seed": seed, "back": back, "why": None, "alarms": alarms, "kid": rows,
        "steps": 30, "begins": 5, "step_seconds": 2.0, "look_seconds": 0.5, "recipe_every": 10,
    }  # fmt: skip


def test_when_a_collapse_is_seen() -> None:
    alarm = first_alarm(result("x", alarm=20))
    assert alarm is not None and alarm["name"] == "far"  # the earlier one
    assert first_alarm(result("x")) is None
    assert kid_shows(result("x", low=(0, 0.1, -0.1, 0.1))) is None  # never twice in a row
    assert kid_shows(result("x", low=(0, -0.1, 0.1, 0.1))) == 20
    broken = result("x", low=(0, 0.1, 0.1, 0.1))
    broken["kid"][1]["low"] = None  # not finite
    assert kid_shows(broken) == 10


def test_records_by_closed_forms() -> None:
    results = [
        *(result(HEALTHY, seed, kid=0.02) for seed in (0, 1)),
        result("a", 0, alarm=15, low=(0, -1, 0.1, 0.1)), result("a", 1, alarm=25, kid=0.5),
        result("a", 0, back=True, alarm=15, kid=0.03), result("a", 1, back=True, kid=0.02),
    ]  # fmt: skip
    found = {record.id.partition(".")[2]: record for record in records(results, MADE)}
    steps = found["collapse_detection_steps"]
    assert (steps.value, steps.n) == (15.0, 2)  # 10 and 20 after the first move
    assert "0 alarms in 2 healthy runs; KID shows 1 of them, in the mean 5 steps" in steps.note
    change = found["rollback_kid_change"]
    assert change.value == pytest.approx(0.005) and change.n == 2
    assert "without going back KID is 0.2600" in change.note
    assert found["probe_overhead"].value == pytest.approx(0.5 / 10 / 2.0)
    assert cured(results)["a"].value == pytest.approx(0.005)


@pytest.mark.slow
def test_from_a_tiny_run_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = changed(RECIPES["ladd_shapes_demo"](), {
        "data.samples.prompts": 8, "data.samples.steps": 2, "data.batch_size": 4,
        "data.cache": str(tmp_path / "cache"), "loop.steps": 4, "method.heads_first": 0,
        "loop.log_every": 2,
    })  # fmt: skip
    monkeypatch.setattr(collapse, "SHORT", {})
    monkeypatch.setattr(collapse, "RECIPES", {"ladd_shapes_demo": lambda: recipe})
    few = [f for f in FAULTS if f.name == HEALTHY or f.curable or f.singles or f.wrong]
    monkeypatch.setattr(collapse, "FAULTS", few)
    words = ["--prompts", "8", "--seeds", "1", "--every", "2", "--work", str(tmp_path / "w"),
             "--results", str(tmp_path / "r"), "--docs", str(tmp_path / "d")]  # fmt: skip
    assert collapse.main(["table", *words]) == 1
    assert collapse.main(["run", *words]) == 0
    files = sorted((tmp_path / "w" / "collapse").glob("*.json"))
    assert len(files) == len(few) + 1
    times = [path.stat().st_mtime_ns for path in files]
    assert collapse.main(["run", *words]) == 0
    assert [path.stat().st_mtime_ns for path in files] == times  # nothing is run twice
    for path in files:
        own = json.loads(path.read_bytes())
        assert [row["step"] for row in own["kid"]] == [0, 2, 4] and own["kid"][0]["more"] == 0
        assert own["step_seconds"] > 0 and own["look_seconds"] > 0
    assert collapse.main(["table", *words]) == 0
    text = (tmp_path / "d" / "collapse.md").read_text(encoding="utf-8")
    assert "student rate x 20, goes back" in text and "| healthy | 0 |" in text
