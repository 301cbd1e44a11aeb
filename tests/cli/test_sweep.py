"""`fewstep sweep`: what it says, refuses and writes, with real tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.said import error

from fewstep.cli import main
from fewstep.cli.opening import read_config
from fewstep.cli.sweeping import seconds_of

VARY = ["--vary", "optim.student.lr=1e-6..1e-2:log", "data.micro_batch=2,4"]


def words(options: list[str], out: Path, *more: str) -> list[str]:
    vary = [] if "--vary" in more else VARY
    small = ["--prompts", "8", "--pictures", "1", "--out", str(out)]
    return ["sweep", "ladd_shapes", *options, *vary, *small, *more]


def test_a_dry_run_says_what_would_be_run_and_runs_nothing(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    more = ["--trials", "30", "--seeds", "2", "--steps", "60", "--dry-run"]
    assert main(words(options, out, *more)) == 0
    said = capsys.readouterr().out
    assert "vary optim.student.lr: 1e-06..0.01:log" in said
    assert "vary data.micro_batch: 2,4" in said
    # 30 x 2, and the recipe beside 3 others on 5 new seeds
    assert "at most 80 runs" in said and "at most 4800 steps and 640 pictures" in said
    assert f"would start a sweep in {out}" in said and not out.exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--trials", "0"], "--trials must be >= 1"),
        (["--seeds", "1"], "--seeds must be >= 2, got 1: nothing is called better on one"),
        (["--fresh", "1"], "--fresh must be >= 2"),
        (["--prompts", "7"], "--prompts must be >= 8"),
        (["--steps", "0"], "--steps must be >= 1"),
        (["--minutes", "0"], "--minutes must be > 0"),
        (["--steps", "3", "--vary", "loop.steps=2..9"], "both say how long a trial is"),
        (["--vary", "optim.student.rate=1..2"], "no field 'optim.student.rate'; did you mean"),
        (["--score", "fid"], "fid"),
        (["--world", "none", "--data.prompts-file", "x"], "by features of --extractor"),
    ],
)
def test_mistakes(
    options: list[str], tmp_path: Path, more: list[str], why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(words(options, tmp_path / "x", *more)) == 2
    assert why in error(capsys)
    assert not (tmp_path / "x").exists()


def test_without_anything_to_vary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "ladd_shapes", *VARY, *VARY]) == 2
    assert "--vary is there twice" in error(capsys)
    assert main(["sweep", "ladd_shapes"]) == 2
    assert "sweep needs --vary FIELD=LOW..HIGH or --propose COMMAND" in error(capsys)
    assert seconds_of([]) is None


@pytest.mark.slow
def test_a_sweep_of_real_runs_from_beginning_to_end(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    more = ["--trials", "2", "--top", "1", "--fresh", "2", "--steps", "1", "--sampling.every", "9"]
    assert main(words(options, out, *more)) == 0
    said = capsys.readouterr().out
    assert "trial 0, training seed 0" in said and f"wrote {out / 'sweep.json'}" in said
    facts: dict[str, Any] = json.loads((out / "sweep.json").read_text())
    assert facts["over"] and facts["score"] == "kid" and len(facts["trials"]) == 2
    assert facts["verdict"] in said and facts["verdict"] in (out / "sweep.html").read_text()
    recipe = facts["trials"][0]
    assert recipe["metrics"]["kid"]["low"] < recipe["metrics"]["kid"]["value"]
    assert recipe["seconds"] > 0
    run = out / "trials" / "0000" / "seed_1"
    assert read_config(run / "config.yaml").seed == 1 and (run / "model").is_dir()
    best = read_config(out / "best.yaml")
    change = facts["trials"][facts["winner"]]["change"]
    assert best.optim.student.lr == change.get("optim.student.lr", 1e-4)
    # the same again runs nothing, and another command is refused
    assert main(words(options, out, *more)) == 0
    assert "training seed 0" not in capsys.readouterr().out
    assert main(words(options, out, *more, "--dry-run")) == 0
    assert "where 2 trials have ended" in capsys.readouterr().out
    assert main(words(options, out, "--trials", "3")) == 2
    assert "was started with another command (trials: 2 there, 3 here" in error(capsys)


def test_help_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{name}" in said for name in ("vary", "trials", "propose", "optim.student.lr"))
