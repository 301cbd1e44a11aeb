"""`fewstep doctor`: what it prints and writes, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
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


def test_prompts_and_pictures_are_looked_at_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, against = tmp_path / "prompts.txt", tmp_path / "benchmark.txt"
    file.write_text("a red circle on a table\nA red circle, on a table.\ntwo old ships at sea\n")
    against.write_text("Two old ships at sea!\n")
    words = ["doctor", str(file), "--out", str(tmp_path / "a")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "PASS  rows: 3 prompts\n" in said
    assert "WARN  repeated: 1 of 3 prompts stand there before, 'a red circle on a table' 2" in said
    assert main([*words, "--against", str(against)]) == 1
    assert "FAIL  leaks: 1 prompts give away one of the benchmark" in capsys.readouterr().out
    assert main(["doctor", "examples/concept", "--size", "64", "--out", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert "4 pictures with captions, and files that are left out: 1; prompts.txt: no" in said
    assert "PASS  sizes: at most 0% cropped" in said
    for words, why in (
        (["examples/concept", "--size", "65"], "--size must be a positive multiple of 16"),
        ([str(tmp_path / "a" / "doctor.html")], "ends in .html; prompts are read from files"),
    ):
        assert main(["doctor", *words, "--out", str(tmp_path / "c")]) == 2
        assert why in error(capsys)


@pytest.mark.slow
def test_a_model_is_looked_at_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", str(model), "--size", "64", "--out", str(tmp_path / "a"), "--full"]
    assert main([*words, "--prompts", "a red circle", "two blue squares"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  convention: " in said and "SKIP  guidance grid: stands on convention" in said
    assert "samples" not in said


@pytest.mark.slow
def test_a_run_looks_first_and_trains_the_same(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of weights at random it is said that they are, and looking moves nothing."""
    words = ["train", "ladd_shapes", *options]
    assert main([*words, "--out", str(tmp_path / "off")]) == 0
    assert "doctor" not in capsys.readouterr().out
    monkeypatch.delenv("FEWSTEP_DOCTOR")
    on = ["--out", str(tmp_path / "on")]
    assert main([*words, *on]) == 0
    said = capsys.readouterr().out
    assert "FAIL  convention: " in said and "warning: a check has failed, and the run goes" in said
    rows = json.loads((tmp_path / "on" / "doctor.json").read_text())["checks"]
    assert "updates" not in {row["check"] for row in rows}
    left, right = (
        load_file(tmp_path / name / "model/transformer/diffusion_pytorch_model.safetensors")
        for name in ("off", "on")
    )
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert main([*words, *on]) == 0  # which has its steps, and looks no more
    assert "doctor" not in capsys.readouterr().out
