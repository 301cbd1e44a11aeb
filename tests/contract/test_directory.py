"""What is wrong with a model directory is said in one sentence that names the file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM

from fewstep.errors import UserError
from fewstep.families.zimage import ZImage

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "model"))


def edit(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    values = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def cut_short(model: Path) -> None:
    content = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(content[: len(content) // 2])


def bad_header(model: Path) -> None:
    content = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(content[:20] + b"\x00" * 40 + content[60:])


def one_weight_less(model: Path) -> None:
    weights = load_file(model / WEIGHTS)
    del weights["layers.0.attention.to_q.weight"]
    save_file(weights, model / WEIGHTS, metadata={"format": "pt"})


def pickled(model: Path) -> None:
    torch.save(load_file(model / WEIGHTS), model / "transformer/diffusion_pytorch_model.bin")
    (model / WEIGHTS).unlink()


Wrong = Callable[[Path], object]
FAULTS: dict[str, tuple[Wrong, tuple[str, ...]]] = {
    "cut short": (cut_short, (WEIGHTS, "broken or cut short", "copy or download")),
    "bad header": (bad_header, (WEIGHTS, "broken or cut short")),
    "a weight less": (one_weight_less, ("transformer", "1 missing", "layers.0.attention.to_q")),
    "a block more": (
        lambda m: edit(m / "transformer/config.json", n_layers=7),
        ("transformer", "config.json", "missing", "layers.6."),
    ),
    "a block less": (
        lambda m: edit(m / "transformer/config.json", n_layers=5),
        ("transformer", "config.json", "unexpected", "layers.5."),
    ),
    "another width": (
        lambda m: edit(m / "transformer/config.json", dim=96, axes_dims=[8, 8, 8]),
        ("transformer", "shape"),
    ),
    "a width that no rotation fits": (
        lambda m: edit(m / "transformer/config.json", dim=128), ("transformer", "cannot be"),
    ),
    "a text layer more": (
        lambda m: edit(
            m / "text_encoder/config.json", num_hidden_layers=4, layer_types=["full_attention"] * 4
        ),
        ("text_encoder", "config.json", "missing", "layers.3."),
    ),
    "another text width": (
        lambda m: edit(m / "text_encoder/config.json", intermediate_size=64),
        ("text_encoder", "config.json", "mismatched", "mlp"),
    ),
    "no config": (lambda m: (m / "vae/config.json").unlink(), ("vae", "config.json")),
    "another pipeline": (
        lambda m: edit(m / "model_index.json", _class_name="FluxPipeline"),
        ("model_index.json", "FluxPipeline", "ZImagePipeline"),
    ),
    "no class": (
        lambda m: edit(m / "model_index.json", _class_name=None),
        ("model_index.json", "names no _class_name", "ZImagePipeline"),
    ),
    "no index": (lambda m: (m / "model_index.json").unlink(), ("has no model_index.json",)),
    "half an index": (
        lambda m: (m / "model_index.json").write_text('{"_class'), ("model_index.json", "read"),
    ),
    "pickled": (pickled, ("transformer has no safetensors", "never loaded", "safe_serialization")),
    "broken tokenizer": (
        lambda m: (m / "tokenizer/tokenizer.json").write_text("{"), ("tokenizer", "cannot be"),
    ),
    **{
        f"no {part}": (lambda m, part=part: shutil.rmtree(m / part), (f"no {part}/ folder",))
        for part in ("transformer", "text_encoder", "vae", "tokenizer", "scheduler")
    },
}  # fmt: skip


@pytest.mark.fault(17)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_directory_is_refused_in_one_sentence(
    fault: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    breaks, expected = FAULTS[fault]
    breaks(model)
    with pytest.raises(UserError) as error:
        ZImage.load(model)
    said = str(error.value)
    assert str(model) in said and "\n" not in said, said
    for words in expected:
        assert words in said, said
    assert "newly initialized" not in capfd.readouterr().err  # nor told by the libraries instead


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: give a directory or a hub id"):
        ZImage.load(tmp_path / "nowhere")


def test_a_text_encoder_may_be_stored_with_its_head(model: Path) -> None:
    """The published Z-Image holds a Qwen3ForCausalLM; the head is not needed for conditions."""
    before = ZImage.load(model)
    text = before.pipeline.text_encoder
    head = Qwen3ForCausalLM(text.config)
    head.model = text
    shutil.rmtree(model / "text_encoder")
    head.save_pretrained(model / "text_encoder")
    assert "lm_head.weight" in load_file(model / "text_encoder/model.safetensors")
    assert ZImage.load(model).fingerprint() == before.fingerprint()


def test_every_part_is_loaded_in_the_type_asked_for(model: Path) -> None:
    family = ZImage.load(model, dtype=torch.bfloat16)
    assert family.pictures is not None
    parts = (family.pipeline.transformer, family.pipeline.text_encoder, family.pipeline.vae,
             family.pictures.model.visual)  # fmt: skip
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_saved_weights_follow_the_umask(model: Path, tmp_path: Path, mask: int, mode: int) -> None:
    family = ZImage.load(model)
    old = os.umask(mask)
    try:
        family.save(tmp_path / "m", family.backbone)
    finally:
        os.umask(old)
    files = list((tmp_path / "m").rglob("*.safetensors"))
    assert len(files) == 4
    assert {file.stat().st_mode & 0o777 for file in files} == {mode}
