"""`fewstep eval`: what its help says, and what is refused before anything is drawn."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from tests.said import error

from fewstep.cli import main
from fewstep.cli import suite as suite_command
from fewstep.evaluate.features import EXTRACTORS
from fewstep.evaluate.lpips import TRUNKS
from fewstep.experiment.codec import to_yaml
from fewstep.recipes.ladd import ladd_shapes
from fewstep.runs import Run

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_run_in_use_is_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with Run.create(run, to_yaml(ladd_shapes())):
        (run / "model").mkdir()
        assert main(["eval", str(run)]) == 2
    assert f"the run {run} is in use by process {os.getpid()}; wait for it to end" in error(capsys)
    assert not (run / "pictures").exists()


def test_a_killed_sample_leaves_no_old_record_over_new_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "mine"
    prompts = [f"a {c} {s}" for c in ("red", "blue", "green") for s in ("circle", "square", "star")]
    words = ["sample", "--model", "shapes", "--prompts", *prompts, "--out", str(pictures)]
    assert main([*words, "--steps", "1"]) == 0
    old = {path.name: path.read_bytes() for path in pictures.iterdir()}
    save = Image.Image.save

    def full(self: Image.Image, path: Path, **more: object) -> None:
        if "0004" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, path, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        assert main([*words, "--steps", "2"]) == 2
    mixed = {path.name: path.read_bytes() for path in pictures.iterdir()}
    assert mixed["0003_seed0.png"] != old["0003_seed0.png"]
    assert mixed["0005_seed0.png"] == old["0005_seed0.png"]
    capsys.readouterr()
    out = tmp_path / "out"
    assert main(["eval", str(pictures), "--suite", "quick", "--out", str(out)]) == 2
    assert "mine" in error(capsys) and not out.exists()
    assert main([*words, "--steps", "2"]) == 0
    assert json.loads((pictures / "samples.json").read_text())["model_calls"] == 2


def test_help_says_what_is_required_and_what_a_suite_decides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["eval", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: quick)" not in said and "(default: MODEL)" not in said
    assert "(required: one or more)" in said and "(required for models)" in said
    assert all(name in said for name in (*EXTRACTORS, *TRUNKS))
    steps = suite_command.SUITES["retention"].steps
    listed = ", ".join(map(str, steps[:-1])) + f" and {steps[-1]} steps, whatever @STEPS"
    assert listed in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shapes", "--suite", "quik"], "quick"),
        (["--suite", "quick"], "at least one model"),
        (["shapes", "--suite", "quick", "--prompts", "3"], "--prompts must be >= 8, got 3"),
        (["shapes@2", "--suite", "quick", "--gap", "shapes@2", "shapes@3"],
         "--gap names 'shapes@3', which is none of the models shapes@2"),
        (["shapes", "shapes@4", "--suite", "quick"], "'shapes, 4 steps' is named twice"),
        (["shapes", "--suite", "quick", "--world", "none"], "--reference MODEL is needed"),
        (["shapes", "--suite", "quick", "--world", "none", "--reference", "shapes@8"],
         "--prompts-file is needed"),
        (["shapes@2", "shapes@1", "--suite", "quick", "--gap", "shapes@2", "shapes@2"],
         "--gap names 'shapes@2' twice; name two models"),
        (["shapes@2", "shapes@1", "--suite", "retention", "--gap", "shapes@2", "shapes@1"],
         "--gap compares models of one row each"),
        (["shapes", "--suite", "retention", "--adapter", "a.safetensors"],
         "the suite retention draws at steps of its own, --adapter at strengths"),
        (["shapes", "--suite", "quick", "--adapter", "a.safetensors", "--strengths", "0", "nan"],
         "--strengths: a strength is a finite number, or one for each step as in 1,1,0,0, got "
         "'nan'"),
        (["shapes", "--suite", "quick", "--adapter", "a.safetensors", "--strengths", "1", "1,0,0"],
         "the strength 1,0,0 has 3 numbers, but there are 4 steps; give one number, or one for"),
        (["shapes", "--suite", "quick", "--height", "0"], "positive multiples of 8, got 0 x 64"),
        (["shapes@4w=2", "--suite", "quick"], "where one is wanted, got 'shapes@4w=2'"),
        (["shapes", "--suite", "quick", "--extractors", "vgg"],
         "there are shapes, pixels, inception, dinov2, clip, lpips-alex, lpips-vgg"),
        (["shapes", "--suite", "quick", "--extractors", "lpips-vgg"], "no weights at"),
        (["shapes", "--suite", "quick", "--adapter", "none.safetensors"], "none.safetensors"),
        (["nowhere/at/all", "--suite", "quick"], "nowhere/at/all"),
        (["nowhere"], "nowhere holds no run"),
    ],
)  # fmt: skip
def test_mistakes(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = ["--out", str(out)] if "--suite" in words else []
    assert main(["eval", *words, *more]) == 2
    assert said in error(capsys)
    assert not out.exists()
