"""The whole way, on pictures in context too: demo, and eval again with other options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.said import error

from fewstep.cli import main
from fewstep.experiment.codec import from_yaml


def test_demo_and_eval(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    words = ["--data.samples.picture-share", "0.5", "--out", str(out)]
    words += ["--eval.full-steps", "2", "--eval.full-seeds", "1"]
    assert main(["demo", *options, *words]) == 0
    assert from_yaml((out / "config.yaml").read_text()).data.samples.picture_share == 0.5
    assert (out / "model" / "picture_encoder" / "model.safetensors").is_file()
    assert (out / "report.html").is_file() and (out / "evaluation.png").is_file()
    first = json.loads((out / "evaluation.json").read_text())
    assert first["commands"][0] == f"fewstep eval {out}"

    config = (out / "config.yaml").read_bytes()
    again = ["--eval.prompts", "9", "--eval.seeds", "1", "--eval.full-seeds", "1"]
    assert main(["eval", str(out), *again]) == 0
    second = json.loads((out / "evaluation.json").read_text())
    assert second["commands"][0] == " ".join(["fewstep", "eval", str(out), *again])
    assert {row["spec"]["n_prompts"] for row in second["rows"] if row["spec"]} == {9}
    assert (out / "config.yaml").read_bytes() == config

    capsys.readouterr()
    for mistake, message in (
        (["--seed", "3"], "eval changes nothing but --eval.* options"),
        (["--eval.promts", "9"], "did you mean 'eval.prompts'"),
        (["--eval.full-guidance", "inf"], "eval.full_guidance must be a finite number"),
    ):
        assert main(["eval", str(out), *mistake]) == 2
        assert message in error(capsys)
