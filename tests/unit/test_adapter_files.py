"""Our own adapter files as bytes, what is not written, and a LoKr as a LoRA."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.lora import CARD, deltas, lokr_state, lora_state

from fewstep.families.adapter_files import as_written, write
from fewstep.families.adapter_formats import read
from fewstep.families.adapter_lora import to_lora
from fewstep.families.adapter_state import by_layer, common_factor, delta

Q, K, V = (f"layers.0.attention.to_{part}" for part in "qkv")
OUT, W1 = "layers.0.attention.to_out.0", "layers.0.feed_forward.w1"
MOD = "layers.0.adaLN_modulation.0"
LAYERS = {Q: (32, 32), K: (32, 32), V: (32, 32), OUT: (32, 32), W1: (96, 32), MOD: (128, 16)}


def test_what_is_written_is_what_every_reader_takes(tmp_path: Path) -> None:
    path, state = tmp_path / "a.safetensors", lokr_state(LAYERS, rank=2)
    write(path, state, CARD)
    tensors = load_file(path)
    assert all(key.startswith("diffusion_model.layers.0.") for key in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert {k: header[k] for k in ("method", "step", "trigger_words", "adapter", "licence")} == {
        "method": "sda", "step": "300", "trigger_words": "sks, a blue hour", "adapter": "lokr",
        "licence": "apache-2.0",
    }  # fmt: skip
    assert header.keys() >= {"base_hash", "base_model", "teacher_hash", "recipe", "fewstep_version"}
    assert "lora_adapter_metadata" not in header
    back, facts = read(path, LAYERS)
    assert (facts.format, facts.kind, facts.modules, facts.factor) == ("fewstep", "lokr", 6, 8)
    for layer, dw in deltas(state).items():
        # 96 rows are 8 x 12 and rank 2 stays; where rank 2 is half of w2, it is multiplied out
        torch.testing.assert_close(
            deltas(back)[layer], dw, rtol=0, atol=0.004 * float(dw.abs().max())
        )


def test_a_file_rounds_to_bfloat16_once(tmp_path: Path) -> None:
    state = {k: v + 1e-4 for k, v in lokr_state(LAYERS).items()}
    write(tmp_path / "a.safetensors", state, CARD)
    back, _ = read(tmp_path / "a.safetensors", LAYERS)
    assert all(torch.equal(back[key], state[key].bfloat16().float()) for key in state)
    assert all(torch.equal(value.float(), back[key]) for key, value in as_written(state).items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {}, "holds one kind of factors, this one has no factors"),
        (lambda s: s | lora_state({W1: (96, 32)}), "layers.0.feed_forward.w1 has the factors"),
        (lambda s: s | lora_state({"x": (8, 8)}), "has both LoKr and LoRA factors"),
        (lambda s: s | {f"{Q}.alpha": torch.ones(1)}, "has the factors alpha, lokr_w1, lokr_w2"),
        (lambda s: s | {f"{Q}.lokr_w1": torch.ones(8)}, "lokr_w1 must be a matrix, got 1-D"),
        (lambda s: s | {f"{Q}.lokr_w1": torch.full((8, 8), math.nan)}, "not finite"),
        (lambda s: s | {f"{Q}.lokr_w1": torch.full((8, 8), 3.4e38)}, "not finite as torch.bf"),
        (lambda s: s | lokr_state({W1: (96, 32)}, 4), "w1 as 4 x 24 by 4 x 8; each factor needs"),
    ],
)  # fmt: skip
def test_what_not_every_reader_takes_is_not_written(change, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=said):
        write(path, change(lokr_state(LAYERS)), CARD)
    assert not list(tmp_path.iterdir())


def test_the_factor_is_found_where_it_divides_not_everything() -> None:
    """341 = 11 x 31 cannot be split by 8, and a factor of 8 leaves it whole."""
    assert common_factor(lokr_state({"a": (341, 64), "b": (64, 341)}, 8)) == 8
    assert common_factor(lokr_state({"a": (64, 64), "b": (96, 32)}, -1)) == -1
    odd = {"a.lokr_w1": torch.ones(3, 4), "a.lokr_w2": torch.ones(16, 16)}
    with pytest.raises(ValueError, match="no decompose_factor splits a as 3 x 16 by 4 x 16"):
        common_factor(odd)


def test_a_card_says_where_a_file_is_from() -> None:
    with pytest.raises(ValueError, match="base_hash must not be empty"):
        replace(CARD, base_hash="")
    with pytest.raises(ValueError, match="step must be >= 0, got -1"):
        replace(CARD, step=-1)
    with pytest.raises(ValueError, match="without commas, got 'a, b'"):
        replace(CARD, trigger_words=("a, b",))


def test_the_best_lora_of_a_lokr_and_what_it_loses() -> None:
    """Against the singular values of the whole matrix."""
    state = lokr_state(LAYERS)
    state |= lokr_state({V: (32, 32)}, rank=2)
    state.pop(f"{V}.lokr_w2")
    rest, whole = 0.0, 0.0
    lora, loss = to_lora(state, 10)
    for layer, dw in deltas(state).items():
        values = torch.linalg.svdvals(dw.double()).square()
        left, energy = values[10:].sum().item(), values.sum().item()
        rest, whole = rest + left, whole + energy
        found = delta(by_layer(lora)[layer])
        assert lora[f"{layer}.lora_A"].shape[0] == 10
        assert (found - dw).norm() / dw.norm() == pytest.approx(math.sqrt(left / energy), rel=1e-4)
        assert loss.layers[layer] == pytest.approx(math.sqrt(left / energy), rel=1e-6)
    assert loss.overall == pytest.approx(math.sqrt(rest / whole), rel=1e-6)
    assert 0.2 < loss.overall < 0.9
    every, none = to_lora(state, 1000)
    assert none.overall < 1e-6 and every[f"{Q}.lora_A"].shape[0] == 32
    torch.testing.assert_close(delta(by_layer(every)[Q]), deltas(state)[Q])


def test_to_lora_takes_a_lokr_and_a_rank() -> None:
    with pytest.raises(ValueError, match="rank must be >= 1, got 0"):
        to_lora(lokr_state(LAYERS), 0)
    with pytest.raises(ValueError, match="is a LoRA already"):
        to_lora(lora_state(LAYERS), 4)
