"""`fewstep sample --adapter`: one file, a stack, a gate, by the pictures and their record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.lora import CARD, in_blocks, lokr_state, lora_state, merged
from tests.said import error

from fewstep.cli import main
from fewstep.experiment.trees import sha256
from fewstep.families.adapter_files import write
from fewstep.families.zimage import ZImage, transformer_of

STEPS = 4


@pytest.fixture(scope="module")
def files(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters, and models with one and with both in their weights."""
    here, family = tmp_path_factory.mktemp("files"), ZImage.load(model)
    sda = lokr_state(in_blocks(family), size=0.1)
    sft = lora_state(in_blocks(family, "to_q", "w1"), size=0.1)
    for name, state in (("sda", sda), ("sft", sft)):
        write(here / f"{name}.safetensors", state, CARD)
    family.save(here / "merged", merged(family, sda))
    half = ZImage.load(model)
    half.pipeline.transformer.load_state_dict(transformer_of(merged(family, sda, 0.5)).state_dict())
    family.save(here / "both", merged(half, sft))
    names = {"sda": "sda.safetensors", "sft": "sft.safetensors"}
    return {name: here / names.get(name, name) for name in ("sda", "sft", "merged", "both")}


def drawn(model: Path, out: Path, *words: str) -> np.ndarray:
    """Two pictures as numbers up to 255."""
    asked = ["--prompts", "a red circle", "--seeds", "0", "1", "--steps", str(STEPS)]
    assert main(["sample", "--model", str(model), *asked, *words, "--out", str(out)]) == 0
    files = [out / f"0000_seed{seed}.png" for seed in (0, 1)]
    return np.stack([np.asarray(Image.open(file)) for file in files]).astype(int)


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(abs(a - b).max())


def test_adapters_are_the_merged_weights(
    model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    sda, sft = str(files["sda"]), str(files["sft"])
    plain = drawn(model, tmp_path / "plain")
    one = drawn(model, tmp_path / "one", "--adapter", sda)
    assert apart(one, drawn(files["merged"], tmp_path / "merged")) <= 1 < 10 < apart(one, plain)
    stack = ["--adapter", sda, sft, "--strengths", "0.5", "1"]
    both = drawn(model, tmp_path / "two", *stack)
    assert apart(both, drawn(files["both"], tmp_path / "both")) <= 1 < 10 < apart(both, one)
    off = drawn(model, tmp_path / "off", "--adapter", sda, "--strengths", "0,0,0,0")
    assert (off == plain).all()

    record = json.loads((tmp_path / "two" / "samples.json").read_text())
    assert record["adapters"] == [
        {"file": sda, "sha256": sha256(files["sda"]), "strength": 0.5},
        {"file": sft, "sha256": sha256(files["sft"]), "strength": 1.0},
    ]
    assert "adapters" not in json.loads((tmp_path / "plain" / "samples.json").read_text())


def test_a_gate_counts_steps(model: Path, files: dict[str, Path], tmp_path: Path) -> None:
    def gated(text: str) -> np.ndarray:
        words = ["--adapter", str(files["sda"]), "--strengths", text]
        return drawn(model, tmp_path / text, *words)

    early, late, whole = gated("1,0,0,0"), gated("0,0,0,1"), gated("1,1,1,1")
    record = json.loads((tmp_path / "1,0,0,0" / "samples.json").read_text())
    assert record["adapters"][0]["strength"] == "1,0,0,0"
    assert (whole == drawn(model, tmp_path / "one", "--adapter", str(files["sda"]))).all()
    found = [early, late, whole, drawn(model, tmp_path / "plain")]
    assert all(apart(a, b) > 5 for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--adapter", "SDA", "--strengths", "1,0"],
         "the strength 1,0 has 2 numbers, but there are 4 steps; give one number, or one for each"),
        (["--adapter", "SDA", "--strengths", "1", "0"],
         "--adapter and --strengths must be as many, got 1 and 2; a strength is a number, or"),
        (["--strengths", "1"], "must be as many, got 0 and 1"),
        (["--adapter", "SDA", "SDA"], "twice; add up its strengths instead"),
        (["--adapter", "no.safetensors"],
         "--adapter 'no.safetensors' must be a .safetensors file that exists"),
        (["--adapter", "SDA", "--strengths", "nan"], "a strength is a finite number"),
        (["--adapter", "SDA", "--strengths", "1,x,0,0"], "got '1,x,0,0'"),
    ],
)  # fmt: skip
def test_mistakes(
    words: list[str], said: str, model: Path, files: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [str(files["sda"]) if word == "SDA" else word for word in words]
    out = tmp_path / "out"
    asked = ["--prompts", "a red circle", "--out", str(out)]
    assert main(["sample", "--model", str(model), *asked, *words]) == 2
    assert said in error(capsys)
    assert not out.exists()
