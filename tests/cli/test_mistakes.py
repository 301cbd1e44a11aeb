"""Mistakes that are found before anything expensive, and named in one sentence."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.said import error

from fewstep.cli import main
from fewstep.experiment import models, samples
from fewstep.recipes import RECIPES

SHAPES = [f"a {colour} {shape}" for colour in ("red", "blue") for shape in ("circle", "square")]
FEW = {"data.samples.prompts": 2}


def train(options: list[str], tmp_path: Path, *more: str) -> int:
    return main(["train", "ladd_shapes", *options, "--out", str(tmp_path / "run"), *more])


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (["--sampling.steps", "2"], "a sampler of 2 steps on this model's grid visits 1, 0.75"),
        (["--method.layers", "1", "9"], "method.layers must lie in 0 .. 5"),
        (["--data.samples.height", "60"], "multiples of 8, got 60 x 64"),
        (["--data.samples.picture-share", "0.5", "--world", "none"], "needs a world"),
        (["--data.cache", "{file}"], "set data.cache or data.directory"),
        (["--data.directory", "{file}/deeper"], "{file} is a file"),
        (["--out", "{file}"], "--out {file} must be a folder"),
    ],
)
def test_checked_before_samples_and_by_dry_run(
    more: list[str], mistake: list[str], message: str, options: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def drawn(*_: object, **__: object) -> None:
        raise AssertionError("samples were asked for")

    monkeypatch.setattr(samples, "precompute", drawn)
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"prompt {i}" for i in range(20)))
    words = [word.replace("{file}", str(file)) for word in mistake]
    if "none" in mistake:
        words += ["--data.prompts-file", str(file)]
    assert train(options, tmp_path, *words, *more) == 2
    assert message.replace("{file}", str(file)) in error(capsys)
    assert not (tmp_path / "run").exists()


def test_dry_run_of_a_sound_experiment_loads_no_weights(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(models.ZImage, "load", loaded)
    assert train(options, tmp_path, "--data.samples.picture-share", "0.5", "--dry-run") == 0


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        (["a cat on a mat", *SHAPES], FEW, "the world cannot read the prompt 'a cat on a mat'"),
        (["a circle", *SHAPES], FEW, "the role 'a circle' has no colour"),
        (SHAPES, {"data.samples.prompts": 5}, "lower data.samples.prompts or add"),
        (SHAPES, {"data.samples.prompts": 2, "sampling.prompts": 5}, "lower sampling.prompts or"),
        (SHAPES, FEW, "but 8 are asked for; lower eval.prompts or add"),
        (
            [*(f"{p} on a {b} background" for p in SHAPES for b in ("white", "tan")), *SHAPES],
            {"data.samples.prompts": 6},
            "'a blue circle on a white background' would be both trained on and evaluated",
        ),
    ],
)
def test_prompts_files(
    lines: list[str], more: dict[str, int], message: str, options: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join([*lines, "", lines[0]]))
    words = [w for key, n in more.items() for w in (f"--{key}", str(n))]
    words += ["--data.prompts-file", str(file), "--dry-run"]
    assert train(options, tmp_path, *words) == 2
    assert message in error(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.batch-size", "1", "--method.loss", "softplus", "--method.misaligned-weight",
          "1"], "method.misaligned_weight > 0 pairs a picture with the text of another sample"),
        (["--method.renoise-mean", "nan"], "method.renoise_mean must be a finite number, got nan"),
        (["--optim.heads.clip", "inf"], "optim.heads.clip must be a finite number, got inf"),
        (["--eval.full-guidance", "nan"], "eval.full_guidance must be a finite number, got nan"),
        (["--data.samples.guidance", "inf"], "guidance must be finite, got inf"),
        (["--loop.steps", "40", "--method.heads-first", "40"],
         "loop.steps = 40 ends before the student's first move (method.heads_first = 40"),
    ],
)  # fmt: skip
def test_values(
    words: list[str], message: str, options: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert train(options, tmp_path, *words) == 2
    assert message in error(capsys)


def test_a_sample_that_is_not_finite_is_named(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    load = models.ZImage.load

    def broken(*args: object, **more: object) -> models.ZImage:
        family = load(*args, **more)  # type: ignore[arg-type]
        with torch.no_grad():
            for p in family.backbone.parameters():
                p.fill_(float("nan"))
        return family

    monkeypatch.setattr(models.ZImage, "load", broken)
    assert train(options, tmp_path, "--data.cache", str(tmp_path / "cache")) == 2
    said = error(capsys)
    assert "the teacher's sample 0 (prompt '" in said and "seed 0) is not finite" in said


def test_full_disk_leaves_no_half_picture(
    options: list[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert train(options, tmp_path) == 2
    assert "step_000000.png: No space left on device" in error(capsys)
    assert list((tmp_path / "run" / "samples").iterdir()) == []
    words = ["--model", str(model), "--prompts", "a red circle", "--steps", "1"]
    assert main(["sample", *words, "--out", str(tmp_path / "pictures")]) == 2
    assert "No space left on device" in error(capsys)
    assert list((tmp_path / "pictures").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--guidance", "nan"], "guidance must be a finite number, got nan"),
        (["--out", "file"], "--out file must be a folder, but file is a file"),
        (["--height", "60"], "multiples of 8, got 60 x 64"),
        (["--height", "0"], "positive multiples of 8, got 0 x 64"),
        (["--width", "-64"], "positive multiples of 8, got 64 x -64"),
        (["--steps", "0"], "--steps must be >= 1, got 0"),
        (["--seeds", "1", "1"], "seeds must be distinct"),
    ],
)
def test_sample(
    words: list[str], message: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["sample", "--model", str(model), "--prompts", "a red circle", *words]) == 2
    assert message in error(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_sample_takes_size_from_the_model_and_tells_unknown_words(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompts", "a red zebra and a purple circle", "--steps", "1", "--dtype", "bfloat16"]
    assert main(["sample", "--model", str(model), *words, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: the model has no word 'zebra', 'purple' (prompt 'a red z")
    assert "1 pictures of 64 x 64" in said.out
    with Image.open(tmp_path / "0000_seed0.png") as picture:
        assert picture.size == (64, 64)
    assert main(["sample", "--model", str(model), "--prompts", "a red circle", "--width", "32",
                 "--steps", "1", "--out", str(tmp_path)]) == 0  # fmt: skip
    assert capsys.readouterr().err == ""
    with Image.open(tmp_path / "0000_seed0.png") as picture:
        assert picture.size == (32, 64)


def test_ctrl_c_while_libraries_load_is_no_traceback() -> None:
    """As if it came when diffusers, which takes seconds, is asked for."""
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'diffusers': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from fewstep.cli import main\n"
        "sys.exit(main(['recipes']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130 and done.stdout == ""
    assert done.stderr == "interrupted before anything began\n"


def test_numbers_that_the_processor_is_slow_at_are_a_warning(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(models, "product_dtype", lambda _: torch.float32)
    exact = ["--engine", "plain", "--optim.student.weights", "exact", "--dry-run"]
    assert train(options, tmp_path, *exact) == 0
    said = capsys.readouterr().out
    assert "# warning: optim.student.weights is exact, and this cpu has no units for" in said
    assert "set optim.student.weights to float32" in said
    cpu, base = torch.device("cpu"), RECIPES["ladd_shapes"]()
    assert models.slow_numbers(replace(base, dtype="bfloat16"), cpu) == []  # a dense engine
    plain = replace(base, engine="plain")
    assert models.slow_numbers(plain, cpu) == []
    assert "dtype is bfloat16" in models.slow_numbers(replace(plain, dtype="bfloat16"), cpu)[0]
    monkeypatch.setattr(models, "product_dtype", lambda _: torch.bfloat16)
    assert models.slow_numbers(replace(plain, dtype="bfloat16"), cpu) == []
