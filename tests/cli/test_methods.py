"""Every other method from the command line, on tiny model directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.said import error

from fewstep.cli import main
from fewstep.evaluate.generate import fingerprint
from fewstep.experiment.models import load_family
from fewstep.families.zimage import ZImage
from fewstep.nets.adapters import AdapterConfig, adapt, load_adapter_state, merged
from fewstep.nets.share import share
from fewstep.runs import read_metrics

SMALL = [
    "--engine", "plain", "--data.source", "prompts", "--data.samples.prompts", "8",
    "--data.batch-size", "2", "--sampling.prompts", "2", "--sampling.every", "1",
    "--loop.log-every", "1", "--eval.prompts", "8", "--eval.seeds", "2",
    "--data.samples.steps", "2",
]  # fmt: skip


@pytest.fixture
def small(model: Path, tmp_path: Path) -> list[str]:
    return [*SMALL, "--model", str(model), "--data.cache", str(tmp_path / "cache")]


def test_dmd2(small: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "dmd2_shapes", *small, "--loop.steps", "3", "--method.student-every", "2"]
    assert main([*words, "--out", str(out)]) == 0
    phases = [(r["step"], r["phase"]) for r in read_metrics(out)]
    assert phases == [
        (1, "critic"), (1, "loop"), (2, "critic"), (2, "student"), (2, "loop"),
        (3, "critic"), (3, "loop"),
    ]  # fmt: skip
    assert ZImage.load(out / "model").sampler == "euler"
    assert not (out / "adapter.safetensors").exists()


@pytest.mark.slow
def test_sda(
    small: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "sda_shapes", *small, "--teacher", str(model), "--adapter.factor", "2"]
    words += ["--method.pool", "1", "--loop.steps", "2", "--out", str(out)]
    before = fingerprint(ZImage.load(model).backbone)
    assert main(words) == 0
    assert fingerprint(ZImage.load(model).backbone) == before

    # The merged model is the base with the adapter of the file, up to the file's bfloat16.
    verdict = json.loads((out / "adapter.safetensors.verdict.json").read_text())
    assert verdict["modules"] == verdict["diffusers_modules"] == verdict["comfyui_modules"] > 0
    with safe_open(out / "adapter.safetensors", "pt") as file:
        header = file.metadata()
    tensors = load_file(out / "adapter.safetensors")
    state = {name.removeprefix("diffusion_model."): value for name, value in tensors.items()}
    assert header["method"] == "sda" and header["recipe"] == "run" and header["step"] == "2"
    base = load_family(str(model), torch.device("cpu")).backbone
    tree = share(base)
    adapt(tree, AdapterConfig(factor=2), seed=0)
    load_adapter_state(tree, state)
    ours, theirs = merged(tree).state_dict(), ZImage.load(out / "model").backbone.state_dict()
    moved = 0
    for name, value in theirs.items():
        change = (value - base.state_dict()[name]).abs().max().item()
        assert torch.allclose(ours[name], value, rtol=0, atol=0.01 * change)
        moved += change > 0
    assert moved == verdict["modules"]

    assert main(["eval", str(out)]) == 0
    found = json.loads((out / "evaluation.json").read_text())
    assert [row["role"] for row in found["rows"]] == [
        "truth", "teacher_full", "teacher_few", "student",
    ]  # fmt: skip
    assert found["question"].startswith("Does the adapter give the 4-step student")
    assert "layout_diversity_recovered" in [c["metric"] for c in found["comparisons"]]
    assert main(["report", str(out)]) == 0
    assert main(words) == 0  # a finished run is left as it is
    assert "resumed at step 2" in capsys.readouterr().out


def test_what_belongs_to_another_method_is_named(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "ladd_shapes", "--teacher", "elsewhere", "--dry-run"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "leave teacher at none" in error(capsys)
    words = ["train", "sda_shapes", *small, "--teacher", "elsewhere", "--dry-run"]
    pictures = ["--method.states", "samples", "--out", str(tmp_path / "run")]
    assert main([*words, *pictures]) == 2
    assert "method sda learns from pictures: set data.source to samples or folder" in error(capsys)
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "teacher 'elsewhere' does not exist" in error(capsys)
