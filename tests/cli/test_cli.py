"""The real command line, in process, on a tiny model directory with random weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.said import error
from tests.tiny import tiny_zimage

from fewstep.cli import main
from fewstep.cli.app import parse_train
from fewstep.errors import UserError
from fewstep.evaluate.generate import fingerprint
from fewstep.experiment.codec import from_yaml, to_yaml
from fewstep.families.zimage import ZImage
from fewstep.recipes import RECIPES
from fewstep.runs import read_metrics


@pytest.mark.slow
def test_train_sample_eval_report(
    options: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "ladd_shapes", *options, "--out", str(out)]) == 0
    assert [p.name for p in sorted((out / "samples").glob("*.png"))] == [
        "step_000000.png", "step_000001.png", "step_000002.png",
    ]  # fmt: skip
    with Image.open(out / "samples" / "step_000000.png") as strip:
        assert strip.size == (128, 64)
    phases = [(r["step"], r["phase"]) for r in read_metrics(out)]
    assert phases == [(s, p) for s in (1, 2) for p in ("heads", "student", "loop")]
    assert json.loads((out / "env.json").read_text())["command"].startswith("fewstep train ladd_sh")

    # The export is the EMA, in an ordinary model directory.
    ema = load_file(out / "checkpoints" / "step_00000002" / "module.ema.safetensors")
    exported = ZImage.load(out / "model").backbone
    for name, value in exported.state_dict().items():
        assert torch.equal(value, ema[f"module.{name}"])
    assert fingerprint(exported) != fingerprint(ZImage.load(model).backbone)

    # A finished run is left as it is.
    before = {p: p.stat().st_mtime_ns for p in (out / "model").rglob("*")}
    assert main(["train", "ladd_shapes", *options, "--out", str(out)]) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "model").rglob("*")} == before
    assert "resumed at step 2" in capsys.readouterr().out

    pictures = tmp_path / "pictures"
    words = ["--model", str(out / "model"), "--prompts", "a red circle", "two blue squares"]
    assert main(["sample", *words, "--seeds", "3", "5", "--out", str(pictures)]) == 0
    assert len(list(pictures.glob("*_seed*.png"))) == 4
    assert json.loads((pictures / "samples.json").read_text())["model_calls"] == 4

    assert main(["eval", str(out)]) == 0
    roles = [row["role"] for row in json.loads((out / "evaluation.json").read_text())["rows"]]
    assert roles == ["truth", "teacher_full", "teacher_few", "student"]
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "student, 4 steps" in page and "://" not in page.split("<body")[0]


def test_interrupted_run_resumes_by_the_same_command(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from fewstep.experiment.preview import Preview

    draw = Preview.__call__

    def draw_and_signal(self: Preview, step: int) -> None:
        draw(self, step)
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    straight, out = tmp_path / "straight", tmp_path / "stopped"
    assert main(["train", "ladd_shapes", *options, "--out", str(straight)]) == 0
    command = ["train", "ladd_shapes", *options, "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(Preview, "__call__", draw_and_signal)
        assert main(command) == 130
    assert "interrupted after step 1, which is saved; the same command goes on" in (
        capsys.readouterr().out
    )
    assert not (out / "model").exists()
    assert main(command) == 0
    assert fingerprint(ZImage.load(out / "model").backbone) == fingerprint(
        ZImage.load(straight / "model").backbone
    )


def test_config_file_is_the_whole_experiment(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = parse_train(["ladd_shapes", *options])
    file = tmp_path / "mine.yaml"
    file.write_text(to_yaml(asked.experiment))
    again = parse_train(["--config", str(file), "--optim.student.lr", "3e-5"])
    assert again.out == Path("runs/mine")
    assert again.experiment.optim.student.lr == 3e-5
    assert again.experiment.method == asked.experiment.method
    assert main(["train", "--config", str(file), "--dry-run", "--out", str(tmp_path / "x")]) == 0
    said = capsys.readouterr().out
    assert "would start a run" in said and not (tmp_path / "x").exists()
    assert from_yaml(said.split("# would")[0]) == asked.experiment


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "no command 'trian'; did you mean 'train'?"),
        (["train", "lad_shapes"], "no recipe 'lad_shapes'; did you mean 'ladd_shapes'?"),
        (["train"], "needs either a recipe or --config"),
        (["train", "ladd_shapes", "--config", "x"], "needs either a recipe or --config"),
        (["train", "--config", "absent.yaml"], "absent.yaml cannot be read"),
        (
            ["train", "ladd_shapes", "--loop.stepz", "3"],
            "did you mean 'loop.steps'",
        ),
        (["train", "ladd_shapes", "--optim.studnt.lr=3"], "did you mean 'optim.student.lr'"),
        (["train", "ladd_shapes", "--model", "/absent"], "'/absent' does not exist"),
        (["train", "ladd_shapes", "--data.batch-size", "1"], "hinge cannot work on one sample"),
        (["train", "ladd_shapes", "--loop.steps", "0"], "loop.steps must be >= 1, got 0"),
        (["train", "ladd_shapes", "--loop.steps", "many"], "Error parsing --loop.steps"),
        (
            ["train", "ladd_shapes", "--method.loss", "hing"],
            "argument '--method.loss'. Expected one of",
        ),
        (["train", "ladd_zimage", "--dry-run"], "the prompts file prompts.txt cannot be read"),
        (["eval"], "eval takes one run directory"),
        (["report", "/absent"], "/absent holds no run"),
        (["sample", "--model", "x", "--prompts", "a", "--step", "3"], "unknown option '--step'"),
        (["sample", "--model", "x"], "Missing from fewstep sample: --prompts"),
        (["sample", "--model", "/absent", "--prompts", "a"], "'/absent' does not exist"),
    ],
)
def test_mistakes_are_one_sentence_with_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if words[:1] == ["train"]:
        words = [*words, "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert message in error(capsys)
    assert not (tmp_path / "run").exists()


def test_directory_that_is_no_model(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["train", "ladd_shapes", *options, "--model", str(tmp_path / "empty")]
    for extra in ([], ["--dry-run"]):
        assert main([*words, "--out", str(tmp_path / "run"), *extra]) == 2
        assert "not a diffusers model directory: it has no model_index.json" in error(capsys)


def test_another_configuration_for_a_run_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "ladd_shapes", *options, "--out", str(out)]
    assert main(command) == 0
    capsys.readouterr()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert main([*command, "--optim.student.lr", "0.5", "--seed", "3"]) == 2
    rate = RECIPES["ladd_shapes"]().optim.student.lr
    expected = f"(optim.student.lr: {rate} there, 0.5 here; seed: 0 there, 3 here)"
    assert expected in error(capsys)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.fault(16)
def test_samples_of_another_teacher_are_refused(
    options: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--data.directory", str(tmp_path / "samples")]
    assert main(["train", "ladd_shapes", *options, *place, "--out", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    other = tmp_path / "other"
    family = tiny_zimage(seed=1)
    family.save(other, family.backbone)
    words = [*options, *place, "--model", str(other), "--data.samples.guidance", "3"]
    assert main(["train", "ladd_shapes", *words, "--out", str(tmp_path / "b")]) == 2
    said = error(capsys)
    assert "guidance: 2.0 there, 3.0 here; model: " in said


def test_levels_that_the_sampler_does_not_visit(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trap 4, for the model's own shift."""
    words = [*options, "--sampling.steps", "2", "--out", str(tmp_path / "run")]
    assert main(["train", "ladd_shapes", *words]) == 2
    assert "a sampler of 2 steps on this model's grid visits 1, 0.75" in error(capsys)


def test_not_finite_loss_stops_with_one_sentence(
    options: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--optim.student.lr", "1e38", "--loop.steps", "8"]
    words += ["--loop.max-skips", "2"]
    out = tmp_path / "run"
    assert main(["train", "ladd_shapes", *options, *words, "--out", str(out)]) == 2
    assert "was not finite in 2 steps in a row" in error(capsys)
    assert not (out / "model").exists()


def test_packaged_model_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fewstep.experiment import models

    monkeypatch.setattr(models.resources, "files", lambda _: tmp_path)
    with pytest.raises(UserError, match="Shapes model is not in this installation"):
        models.model_path("shapes")
    shutil.rmtree(tmp_path)
