"""D-OPSD from the command line: a teacher that is refused and forced, a gauge that chooses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.said import error
from tests.unit.test_folder import put

from fewstep.cli import main
from fewstep.cli.opening import read_experiment
from fewstep.experiment.builder import build
from fewstep.nets.adapters import adapter_state
from fewstep.train import checkpoint
from fewstep.train.aside import BEST
from fewstep.train.gauge import RECORD, read_rows
from fewstep.train.retention import best


def words_of(model: Path, root: Path) -> list[str]:
    """Enhanced prompts in which a model of random weights does not find the concept."""
    for i in range(2):
        put(root / "pictures" / f"{i}.png", f"{i} circles", width=64, height=64, seed=i)
        (root / "pictures" / f"{i}.enhanced.txt").write_text(f"{5 * i} dogs on white")
    (root / "others.txt").write_text("\n".join(f"a {i} dog" for i in range(12)))
    values = {
        "world": "none", "data.prompts-file": root / "others.txt", "engine": "plain",
        "model": model, "data.folder.path": root / "pictures",
        "data.folder.context": "prompt", "data.folder.prompts": "none",
        "data.cache": root / "cache", "data.batch-size": 2,
        "data.samples.prompts": 4, "method.tether-weight": 0.1, "check.pictures": 8,
        "retention.every": 1, "retention.prompts": 8,
        "retention.steps": 1, "retention.concept": 2, "retention.tolerance": 0.0,
        "retention.collapse": 100.0, "adapter.factor": 2, "loop.steps": 3,
        "sampling.prompts": 2, "sampling.every": 3, "out": root / "run",
    }  # fmt: skip
    return ["train", "dopsd_shapes", *(w for k, v in values.items() for w in (f"--{k}", str(v)))]


@pytest.mark.slow
def test_a_refused_teacher_a_forced_run_and_the_best_of_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = words_of(model, tmp_path), tmp_path / "run"
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "# would look at the teacher first: 8 pictures in context and as many" in said
    assert "# would look at 8 prompts outside of the concept every 1 steps" in said

    assert main(words) == 2
    assert "come no nearer to the training pictures" in error(capsys)
    assert not json.loads((out / "teacher.json").read_text())["forced"]
    assert not read_rows(out / RECORD)

    assert main([*words, "--force"]) == 0
    said = capsys.readouterr().out
    assert json.loads((out / "teacher.json").read_text())["forced"]
    experiment, rows = read_experiment(out), read_rows(out / RECORD)
    kept = best(rows, experiment.retention)
    assert [row.step for row in rows] == [0, 1, 2, 3] and 0 < kept.step < 3
    assert f"writing the weights of step {kept.step}, the best" in said
    with safe_open(out / "adapter.safetensors", "pt") as file:
        assert file.metadata()["step"] == str(kept.step)
    found = {
        name.removeprefix("diffusion_model."): value
        for name, value in load_file(out / "adapter.safetensors").items()
    }
    built = build(experiment, out)
    checkpoint.load(out / "checkpoints" / BEST, built.method.modules, built.optims)
    last = checkpoint.newest(out / "checkpoints", pytest.fail)
    assert last is not None
    moved = load_file(last / "module.student.safetensors")
    of_best = load_file(out / "checkpoints" / BEST / "module.student.safetensors")
    assert any(not torch.equal(moved[name], value) for name, value in of_best.items())
    for name, value in adapter_state(built.method.exported()).items():  # type: ignore[arg-type]
        assert torch.equal(found[name].float(), value.bfloat16().float()), name
    assert f"{kept.step} steps of batch 2" in (out / "model" / "README.md").read_text()
    assert main(words) == 0  # a finished run is left as it is, forced as it was

    for more, step in ([], kept.step), (["--step", "3"], 3):
        again = out.with_name(f"again_{step}")
        assert main(["export", str(out), "--out", str(again), *more]) == 0
        with safe_open(again / "adapter.safetensors", "pt") as file:
            assert file.metadata()["step"] == str(step)
            same = all(
                torch.equal(file.get_tensor(f"diffusion_model.{n}"), v) for n, v in found.items()
            )
        assert same == (step == kept.step)


@pytest.mark.slow
def test_an_export_before_or_without_a_good_look(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose every look is a collapse has nothing to export but what is asked for by its step;
    one that goes on takes its newest."""
    words, out = (
        [*words_of(model, tmp_path), "--force", "--retention.collapse", "0"],
        tmp_path / "run",
    )
    assert main(words) == 2
    assert "at every look the student of" in error(capsys)
    assert main(["export", str(out), "--out", str(tmp_path / "none")]) == 2
    assert "at every look the student of" in error(capsys)
    rows = (out / RECORD).read_text().splitlines(keepends=True)
    (out / RECORD).write_text("".join(rows[:2]))
    for name, more in (("newest", []), ("asked", ["--step", "3"])):
        assert main(["export", str(out), "--out", str(tmp_path / name), *more]) == 0
        with safe_open(tmp_path / name / "adapter.safetensors", "pt") as file:
            assert file.metadata()["step"] == "3"
