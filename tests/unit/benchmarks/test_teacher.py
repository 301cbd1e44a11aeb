"""The teacher's table, end to end on a tiny model: what chooses, what is claimed, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import teacher
from tests.tiny import tiny_zimage

from fewstep import claims

WORDS = ["--steps", "1", "2", "--guidance", "1", "2", "--full", "2", "--prompts", "8",
         "--claim-prompts", "10", "--claim-seeds", "2", "--layout-prompts", "8",
         "--layout-seeds", "3", "--batch", "16"]  # fmt: skip


@pytest.mark.slow
def test_validation_chooses_and_test_prompts_are_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = tiny_zimage()
    family.save(tmp_path / "model", family.backbone)
    places = [f"--{name}={tmp_path / name}" for name in ("model", "results", "docs", "work")]
    words = [*WORDS, *places]
    for part in ("0/2", "1/2"):
        assert teacher.main([*words, "--part", part]) == 0
    assert not (tmp_path / "results").exists()
    assert capsys.readouterr().out.count("drawing 16 pictures") == 4

    assert teacher.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("drawing") == 4  # the cells of the table were kept
    assert said.count("drawing 20 pictures") == said.count("drawing 24 pictures") == 2

    record = json.loads((tmp_path / "results" / "tables" / "teacher.json").read_text())
    assert {(r["split"], r["metrics"]["kid"]["n_prompts"]) for r in record["table"]} == {("val", 8)}
    full, few, *bounds = record["claimed"]
    assert full["name"].startswith("2 steps") and few["name"] == "4 steps, w = 1"
    for row in (full, few):
        counts = {m: (e["n_prompts"], e["n_seeds"]) for m, e in row["metrics"].items()}
        assert counts.pop("layout_diversity") == (8, 3)
        kinds = [counts.pop(m)[0] for m in list(counts) if m.startswith("category_")]
        asked = [counts.pop(f"adherence_{part}") for part in ("size", "background")]
        assert all(0 < prompts < 10 and seeds == 2 for prompts, seeds in asked)
        assert set(counts.values()) == {(10, 2)} and sum(kinds) == 10
    assert bounds[0]["metrics"]["adherence"]["value"] == 1
    found = {c.id: c for c in claims.read(tmp_path / "results" / "spine.json")}
    assert found["spine.teacher_adherence"].n == 10
    layouts = found["spine.teacher_layout_diversity"]
    assert layouts.n == 8 and "3 pictures each" in layouts.note
    drop = full["metrics"]["adherence"]["value"] - few["metrics"]["adherence"]["value"]
    assert found["spine.teacher_4step_adherence_drop"].value == pytest.approx(drop)
    page = (tmp_path / "docs" / "teacher.md").read_text()
    assert "10 x 2" in page and "8 x 2" in page and "8 prompts x 3 seeds" in page
