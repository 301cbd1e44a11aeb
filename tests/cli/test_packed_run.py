"""Runs over packed bases: what they write stands on the whole model."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.cli.test_tuning_run import words_of
from tests.said import error

from fewstep.cli import main
from fewstep.experiment.codec import to_yaml
from fewstep.families.zimage import ZImage
from fewstep.nets.adapters import AdapterConfig
from fewstep.recipes import RECIPES
from fewstep.train import saving
from fewstep.train.parts import Held

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
CHANGES = {
    "optim.student.lr": 1e-3, "optim.student.warmup": 0, "method.loss": "softplus",
    "engine": "plain", "frozen": "int8",
}  # fmt: skip


def words(options: list[str], *changes: dict[str, object]) -> list[str]:
    given = {name: value for each in changes for name, value in each.items()}
    more = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return [*options, *more]


@pytest.mark.slow
def test_an_adapter_over_a_packed_base_is_exported_over_the_whole_one(
    options: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "run", tmp_path / "again"
    adapter = AdapterConfig(kind="lora", rank=2, targets=("attention",))
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(replace(RECIPES["ladd_shapes"](), adapter=adapter)))
    command = ["train", "--config", str(config), *words(options, CHANGES), "--out", str(out)]
    assert main([*command, "--loop.steps", "1", "--dry-run"]) == 0
    assert main(command) == 0
    whole, found = (load_file(folder / WEIGHTS) for folder in (model, out / "model"))
    state = load_file(out / "adapter.safetensors")
    assert whole.keys() == found.keys()
    for name in ("layers.0.attention.to_q", "layers.1.attention.to_v"):
        up, down = (state[f"diffusion_model.{name}.lora_{part}.weight"] for part in "BA")
        delta = up.float() @ down.float()
        largest = float(delta.abs().max())
        assert largest > 1e-6
        moved = found[f"{name}.weight"] - whole[f"{name}.weight"]
        # files of adapters are bfloat16
        assert torch.allclose(moved, delta, rtol=0, atol=0.01 * largest)
    same = "layers.0.feed_forward.w1.weight"
    assert torch.equal(whole[same], found[same])

    env = json.loads((out / "env.json").read_text())
    assert env["model"] == ZImage.load(model).fingerprint()
    capsys.readouterr()
    assert main(command) == 0  # it is finished, and finds the same model
    assert main(["export", str(out), "--out", str(again)]) == 0
    written = load_file(again / "model" / WEIGHTS)
    assert all(torch.equal(written[name], found[name]) for name in found)


@pytest.mark.slow
def test_whole_weights_begin_as_the_model_is_and_see_a_packed_teacher(
    options: list[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    still = {"optim.student.lr": 1e-12, "method.ema-decay": 0}
    assert main(["train", "ladd_shapes", *words(options, CHANGES, still), "--out", str(out)]) == 0
    whole, found = (load_file(folder / WEIGHTS) for folder in (model, out / "model"))
    assert max(float((whole[name] - found[name]).abs().max()) for name in whole) < 1e-9


def test_what_reads_weights_without_calling_layers_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "ladd_shapes", "--out", str(tmp_path / "run")]
    assert main([*command, *words(options, CHANGES, {"engine": "fused"})]) == 2
    assert "frozen is int8, but engine fused reads the weights" in error(capsys)
    assert main([*command, *words(options, CHANGES, {"sharding.mode": "parameters"})]) == 2
    assert "sharding.mode is parameters, but frozen is int8" in error(capsys)


@pytest.mark.slow
def test_a_run_says_how_weights_are_kept_and_what_its_first_updates_move(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the first steps are of the heads alone, and so compute nothing again."""
    values: dict[str, object] = {
        "optim.student.weights": "exact", "optim.student.moments": "8bit", "engine": "plain",
        "method.ema-decay": 0, "method.heads-first": 2, "loop.steps": 4,
        "optim.heads.lr": 1e-12, "optim.heads.warmup": 0,
    }  # fmt: skip
    command = ["train", "ladd_shapes", *words(options, values), "--recompute"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "in bfloat16 (exact), moments in 8bit; heads" in said
    assert "in float32, moments in float32; frozen " in said
    assert "; blocks are computed again" in said and "an average" not in said
    assert "warning: the first update of heads moved" in said
    assert "at its rate of 1e-12 the others are rounded" in said
    assert "\nthe first update of student moved 100.0% of the weights" in said


@pytest.mark.slow
def test_the_best_of_a_packed_run_is_what_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """While large checkpoints are written slowly; and an adapter that is gone is made again, over
    the whole base."""
    real = Held.write

    def slow(self: Held, path: Path) -> None:
        time.sleep(0.1)
        real(self, path)

    monkeypatch.setattr(Held, "write", slow)
    monkeypatch.setattr(saving, "LARGE", 1)
    out, again = tmp_path / "run", tmp_path / "again"
    # a rate at which the first looks are the best
    more = ["--force", "--frozen", "int8", "--loop.checkpoint-every", "1", "--loop.keep", "9",
            "--optim.student.lr", "0.3", "--optim.student.schedule", "constant"]  # fmt: skip
    command = [*words_of(model, tmp_path), *more]
    assert main(command) == 0
    said = capsys.readouterr().out
    step = int(said.partition("writing the weights of step ")[2].partition(",")[0])
    assert step < 3
    written = load_file(out / "adapter.safetensors")
    assert main(["export", str(out), "--out", str(again), "--step", str(step)]) == 0
    found = load_file(again / "adapter.safetensors")
    assert all(torch.equal(written[name], found[name]) for name in written)

    header = base_of(out / "adapter.safetensors")
    assert header == ZImage.load(model).fingerprint()
    (out / "adapter.safetensors").unlink()
    assert main(command) == 0
    assert base_of(out / "adapter.safetensors") == header


def base_of(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return file.metadata()["base_hash"]
