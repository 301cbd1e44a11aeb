"""The scripts that measure steps: their tables on Shapes, and Z-Image's cases at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import checkpoint, drawing, large, memory, step

from fewstep.experiment import outline
from fewstep.nets.packed import PackedLinear
from fewstep.recipes import RECIPES

CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Z-Image with fewer blocks, each narrow."""
    small = {
        "dim": 32, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 16, "axes_dims": [8, 4, 4],
        "n_layers": 24, "n_refiner_layers": 1,
    }  # fmt: skip
    monkeypatch.setattr(outline, "TRANSFORMER", outline.TRANSFORMER | small)
    encoder: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 32,
    }  # fmt: skip
    monkeypatch.setattr(outline, "ENCODER", encoder)
    vae = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}
    monkeypatch.setattr(outline, "AUTOENCODER", outline.AUTOENCODER | vae)


def read(results: Path, name: str) -> dict[str, Any]:
    return json.loads((results / "bench" / f"{name}.json").read_bytes())


@pytest.mark.slow
def test_plans_of_shapes_are_what_steps_take(tmp_path: Path) -> None:
    names = ["dopsd", "ladd-inside"]
    words = ["--size", "shapes", "--results", str(tmp_path), "--cases", *names]
    assert memory.main(words) == 0
    rows = read(tmp_path, "memory_shapes")["rows"]
    assert [row["case"] for row in rows] == names
    for row in rows:
        assert row["gib"] == pytest.approx(row["planned_gib"], rel=0.02)
    assert not (tmp_path / "fit.json").exists()  # claims are of Z-Image on a GPU


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["full-512-1", "full-48gb", "full-32gb", "lora-int8-512-8", "sda-24", "dopsd-24-4"]
)
def test_cases_of_z_image_run_at_a_tiny_size(
    name: str, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = memory.CASES["zimage"][name]
    changes = {**case.changes, "data.samples.height": 32, "data.samples.width": 32,
               "dtype": "float32"}  # fmt: skip
    if "full" in name:
        changes["optim.student.weights"] = "float32"
    if "sda" in name:
        changes["method.pool"] = 1
    if "dopsd" in name:
        changes["data.folder.size"] = 32
    small = large.Case(name=name, recipe=case.recipe, changes=changes)
    it = large.ready(small, "zimage", CPU)
    packed = any(isinstance(m, PackedLinear) for m in it.families[0].backbone.modules())
    assert packed == (it.experiment.frozen != "dtype")
    assert len(it.families) == (2 if "sda" in name else 1)
    it.step(it.fullest())
    assert all(optim.updates == 1 for optim in it.optims.values())


@pytest.mark.slow
def test_steps_are_compared_at_equal_gradients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--size", "shapes", "--results", str(tmp_path), "--pairs", "2", "--batch", "2"]
    assert step.main([*words, "--engine", "fused"]) == 0
    found = read(tmp_path, "step_shapes")
    assert found["gradients_apart"] < 1e-4
    assert found["flops"]["both"] > found["flops"]["heads"] > 0
    assert sum(row["share"] for row in found["most_time"]) <= 1
    [record] = json.loads((tmp_path / "fit.json").read_bytes())
    assert record["id"] == "fit.step_speedup_cpu" and record["n"] == 2
    assert "naive over ours" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_is_timed_and_taken_away(tmp_path: Path) -> None:
    words = ["--size", "shapes", "--results", str(tmp_path), "--folder", str(tmp_path / "disk")]
    assert checkpoint.main(words) == 0
    found = read(tmp_path, "checkpoint_shapes")
    assert 0 < found["training_waits"] < found["until_it_is_whole"]
    assert found["bytes"] > 10_000_000
    assert not list((tmp_path / "disk").iterdir())


def test_both_ways_of_drawing_draw_the_same(tmp_path: Path) -> None:
    args = drawing.parser().parse_args(["--steps", "3", "--batch", "2", "--size", "shapes"])
    family = large.model_of("shapes", "shapes", RECIPES["ladd_shapes"](), CPU)
    it = drawing.Drawing(family, 64, 20, args)
    assert torch.allclose(it.ours(), it.loop(), rtol=0, atol=1e-4)


def test_the_peak_of_an_unknown_gpu_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert large.gpu_peak(CPU) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert large.gpu_peak(torch.device("cuda")) == 790e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GeForce 256")
    with pytest.raises(Exception, match="the peak of GeForce 256 is not known"):
        large.gpu_peak(torch.device("cuda"))
