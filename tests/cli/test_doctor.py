"""`fewstep doctor`: what it prints and writes, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.said import error

from fewstep.cli import main


@pytest.mark.slow
def test_a_model_that_was_never_trained_is_found_out(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seen"
    words = ["doctor", "ladd_shapes", *options, "--engine", "plain", "--out", str(out)]
    against = tmp_path / "benchmark.txt"
    against.write_text("three purple rings on a plain\n")
    assert main([*words, "--against", str(against)]) == 1
    said = capsys.readouterr().out
    assert "\nPASS  text: " in said and "\nPASS  grid: " in said
    assert "\nFAIL  convention: " in said
    assert "\nSKIP  pipeline: stands on convention" in said
    assert f"failed; wrote {out / 'doctor.html'}\n" in said
    rows = {row["check"]: row for row in json.loads((out / "doctor.json").read_text())["checks"]}
    assert rows["convention"]["state"] == "fail" and rows["convention"]["facts"]["errors"]
    assert rows["leaks"]["state"] == "pass" and "of 9 prompts" in rows["leaks"]["evidence"]
    page = (out / "doctor.html").read_text()
    assert "Repair convention first" in page and "http" not in page.replace("http-equiv", "")
    # the same command again, beside what it wrote; and against a run that went well
    validated = tmp_path / "config.yaml"
    run = str(tmp_path / "run")
    train = ["train", "ladd_shapes", *options, "--loop.steps", "3"]
    assert main([*train, "--dry-run", "--out", run]) == 0
    shown = capsys.readouterr().out
    validated.write_text("\n".join(s for s in shown.splitlines() if not s.startswith("#")))
    assert main([*words, "--validated", str(validated)]) == 1
    told = capsys.readouterr().out
    assert "WARN  validated: 2 fields differ from the validated run: engine fused -> plain" in told
    assert "loop.steps 3 -> 2" in told


def test_mistakes(tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("")
    (tmp_path / "empty.txt").write_text("\n")
    for words, why in (
        (["--out", str(run)], "is a run; choose another --out"),
        (["--against", str(tmp_path / "none.txt")], "cannot be read"),
        (["--against", str(tmp_path / "empty.txt")], "has no prompt"),
    ):
        assert main(["doctor", "ladd_shapes", *options, *words]) == 2
        assert why in error(capsys)
    assert main(["doctor", "ladd_shape"]) == 2
    assert "there is no recipe 'ladd_shape'" in error(capsys)
