"""`fewstep export`: models of checkpoints that were saved by one process or by several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch._dynamo  # FSDP2 imports it at its first pass: once, before processes are forked
from safetensors.torch import load_file
from tests import forks
from torch import Tensor

from fewstep.cli import main
from fewstep.experiment.strips import read_strip

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def far(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a)


@pytest.mark.slow
def test_two_processes_draw_save_and_export_what_one_does(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Real Z-Image weights, student, heads and teacher sharded; the verb makes again what the end
    of the run has made, and of an earlier step something else."""
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    values = {
        "optim.student.lr": 1e-5, "optim.heads.lr": 1e-4, "optim.student.warmup": 0,
        "optim.heads.warmup": 0, "method.loss": "softplus", "engine": "plain",
        "sampling.every": 2,
    }  # fmt: skip
    changed = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    words = ["train", "ladd_shapes", *options, *changed]
    assert main([*words, "--out", str(one)]) == 0
    words += ["--sharding.mode", "parameters", "--sharding.teacher", "sharded", "--out", str(two)]
    assert forks.run(2, lambda rank: main(words)) == [0, 0]

    alone, together = (load_file(run / "model" / WEIGHTS) for run in (one, two))
    assert far(alone, together) <= 1e-6
    assert not any("FSDP" in p.read_text() for p in two.glob("model/*/config.json"))
    for step in (0, 2):
        pictures = [read_strip(run / f"samples/step_{step:06d}.png", 2) for run in (one, two)]
        assert torch.allclose(*pictures, rtol=0, atol=1.1 / 255)

    capfd.readouterr()
    assert main(["export", str(two), "--out", str(again)]) == 0
    assert "exporting" in capfd.readouterr().out
    assert far(together, load_file(again / "model" / WEIGHTS)) == 0
    first = tmp_path / "first"
    assert main(["export", str(two), "--out", str(first), "--step", "1"]) == 0
    assert far(together, load_file(first / "model" / WEIGHTS)) > 5e-6  # a step of the average
    assert "LADD, 1 steps of batch" in (first / "model/README.md").read_text()

    # how weights are divided is not what a run is
    whole = ["--sharding.mode", "none", "--sharding.teacher", "replicated"]
    assert main([*words, *whole]) == 0


@pytest.mark.slow
def test_an_adapter_is_exported_too_and_nothing_is_overwritten(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    values = {
        "model": model, "teacher": model, "engine": "plain", "data.cache": tmp_path / "cache",
        "data.source": "prompts", "data.samples.prompts": 4, "data.batch-size": 2,
        "adapter.factor": 2, "loop.steps": 1, "sampling.every": 9, "sampling.prompts": 1,
        "method.guidance": 2.0, "method.teacher-steps": 1,
    }  # fmt: skip
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    assert main(["train", "sda_shapes", *words, "--out", str(run)]) == 0
    kept = shutil.copytree(run / "checkpoints", tmp_path / "kept")
    assert main(["export", str(run), "--out", str(again)]) == 0
    for file in ("adapter.safetensors", f"model/{WEIGHTS}"):
        assert far(load_file(run / file), load_file(again / file)) == 0

    for asked, why in (
        ([], "model is there already; choose another --out"),
        (["--out", str(tmp_path / "x"), "--step", "7"], "no checkpoint of step 7"),
    ):
        assert main(["export", str(run), *asked]) == 2
        assert why in capsys.readouterr().err
    with (run / "checkpoints/step_00000001/module.ema.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"\xff\xff\xff")
    for more in ([], ["--step", "1"]):
        assert main(["export", str(run), "--out", str(tmp_path / "x"), *more]) == 2
        assert "module.ema.safetensors is corrupted" in "".join(capsys.readouterr())
    shutil.copytree(kept, run / "checkpoints", dirs_exist_ok=True)
    facts = json.loads((run / "env.json").read_text())
    (run / "env.json").write_text(json.dumps({**facts, "model": "another"}))
    assert main(["export", str(run), "--out", str(tmp_path / "x")]) == 2
    assert "was started on another model than" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
