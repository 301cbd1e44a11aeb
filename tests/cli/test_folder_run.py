"""A whole training on four pictures of one's own, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.said import error
from tests.unit.test_folder import put

from fewstep.cli import main
from fewstep.runs import read_metrics


def test_four_pictures_are_enough(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "run"
    for i in range(4):
        put(folder / f"{i}.png", f"a red circle\n{i} circles", width=80 + 30 * i, seed=i)
    values = {
        "engine": "plain", "model": model, "data.source": "folder", "data.folder.path": folder,
        "data.folder.size": 64, "data.folder.trigger": "sks", "data.cache": tmp_path / "cache",
        "data.batch-size": 6, "data.micro-batch": 3, "loop.steps": 2, "loop.log-every": 1,
        "sampling.prompts": 2, "sampling.every": 2,
    }  # fmt: skip
    words = ["train", "sft_shapes", "--out", str(out)]
    words += [word for name, value in values.items() for word in (f"--{name}", str(value))]
    assert main([*words[:-2], "--sampling.every", "0"]) == 2
    assert "sampling.every must be >= 1" in error(capsys)
    (folder / "lonely.txt").write_text("a dog")
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "# 0.png: 80 x 80 to 64 x 64, 0% cropped: 'sks, a red circle' and 1 more" in said
    assert "# left out: lonely.txt: no picture: there is no picture of its name" in said
    assert "4 pictures with 8 captions, 1 left out" in said and not out.exists()

    assert main(words) == 0
    said = capsys.readouterr().out
    assert "left out: lonely.txt: no picture" in said
    assert f"{folder}: training on 4 pictures, 1 left out, 4 warnings" in said
    assert "warning: 0.png: the model has no word 'sks,'" in said
    assert [r["step"] for r in read_metrics(out) if r["phase"] == "student"] == [1, 2]
    assert json.loads((out / "env.json").read_text())["samples"]["pictures"] == 4
    report = json.loads((out / "data.json").read_text())["folder"]
    assert [row["file"] for row in report["rows"]] == [f"{i}.png" for i in range(4)]
    assert [remark["file"] for remark in report["left_out"]] == ["lonely.txt"]
    readme = (out / "model" / "README.md").read_text()
    assert "on a folder of pictures with captions" in readme
    assert "height=64, width=64" in readme
    assert main(words) == 0
    (folder / "2.txt").write_text("another caption")
    (folder / "0.png").unlink()
    assert main(words) == 2
    said = error(capsys)
    assert "captions_hash" in said and "; changed: 0.png, 2.png)" in said


def test_what_the_model_does_not_hear_of_captions_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "p" / "a.png", "a red zebra\na red circle", seed=1)
    put(tmp_path / "p" / "b.png", "a red circle " * 200, seed=2)
    words = ["--model", str(model), "--data.folder.path", str(tmp_path / "p")]
    assert (
        main(["train", "sft_tune_shapes", *words, "--dry-run", "--out", str(tmp_path / "r")]) == 0
    )
    said = capsys.readouterr()
    told = [line for line in said.out.splitlines() if line.startswith("# warning")]
    # a turn has five tokens more than its 600 words
    assert told == [
        "# warning: a.png: the model has no word 'zebra'",
        "# warning: b.png: of the 605 tokens of a caption the model reads 224",
    ]
    assert "sequence length" not in said.err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("recipe", "value", "said"),
    [
        ("sft_tune_shapes", ["--data.prior", "samples"],
         "data.prior is samples, but method sft asks for no samples of other prompts: set "
         "data.prior to none"),
        ("pso_shapes", ["--data.folder.context", "prompt"],
         "data.folder.context is prompt, but method pso has no teacher that sees it: set "
         "data.folder.context to none"),
        ("ladd_shapes", ["--data.folder.path", "pictures"],
         "data.folder.path is 'pictures', which is read where data.source is folder: set that, got "
         "samples, or data.folder.path to none"),
    ],
)  # fmt: skip
def test_what_nobody_reads_is_refused_before_the_model_is_looked_for(
    more: list[str], recipe: str, value: list[str], said: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["--model", str(tmp_path / "gone"), "--out", str(tmp_path / "run"), *value, *more]
    assert main(["train", recipe, *words]) == 2
    assert said in error(capsys)


@pytest.mark.slow
def test_sda_learns_at_the_noised_pictures_of_a_folder(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "run"
    for i in range(3):
        put(folder / f"{i}.png", f"{i} circles", width=64, seed=i)
    values = {
        "engine": "plain", "model": model, "teacher": model, "method.states": "samples",
        "data.source": "folder", "data.folder.path": folder, "data.folder.size": 64,
        "data.cache": tmp_path / "cache", "data.batch-size": 3, "adapter.factor": 2,
        "method.pool": 1, "loop.steps": 2, "loop.log-every": 1, "sampling.prompts": 2,
        "sampling.every": 2, "out": out,
    }  # fmt: skip
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    assert main(["train", "sda_shapes", *words]) == 0
    first, second = (r for r in read_metrics(out) if r["phase"] == "student")
    # The model is its own teacher, but for guidance and the teacher's calls.
    assert first["anchor"] == pytest.approx(0, abs=1e-12) and 0 < first["alike"] < 2
    assert second["anchor"] > 0 and (out / "adapter.safetensors").exists()
