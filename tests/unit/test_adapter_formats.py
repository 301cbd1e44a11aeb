"""Adapters as other trainers write them: what is read, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.lora import deltas, lokr_state, lora_state
from torch import Tensor

from fewstep.errors import UserError
from fewstep.families import comfy
from fewstep.families.adapter_formats import read

Q, K, V = (f"layers.0.attention.to_{part}" for part in "qkv")
OUT, W1 = "layers.0.attention.to_out.0", "layers.0.feed_forward.w1"
MOD = "layers.0.adaLN_modulation.0"
LAYERS = {Q: (32, 32), K: (32, 32), V: (32, 32), OUT: (32, 32), W1: (96, 32), MOD: (128, 16)}
DIFFUSERS, AI = "transformer.{}.{}", "diffusion_model.{}.{}"


def put(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    return path


def renamed(state: dict[str, Tensor], pattern: str, **names: str) -> dict[str, Tensor]:
    """`pattern` of layer and factor; underscores for the layer's dots where it starts so."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, factor = key.rpartition(".")
        layer = layer.replace(".", "_") if pattern.startswith(("lora_", "lycoris_")) else layer
        found[pattern.format(layer, names.get(factor, factor))] = tensor
    return found


def with_alpha(tensors: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    layers = {key[: key.index(".lo")] for key in tensors}
    return tensors | {f"{layer}.alpha": torch.tensor(alpha) for layer in layers}


PAIR = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}
PEFT = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}
DIFFSYNTH = {"lora_A": "lora_A.default.weight", "lora_B": "lora_B.default.weight"}


@pytest.mark.parametrize(
    ("pattern", "names", "alpha", "format"),
    [
        (DIFFUSERS, PEFT, None, "diffusers"),
        (DIFFUSERS, PAIR, 2.0, "onetrainer"),
        (AI, PEFT, None, "ai-toolkit"),
        (AI, PEFT, 1.0, "ai-toolkit"),
        ("lora_unet_{}.{}", PAIR, 2.0, "musubi"),
        ("lycoris_{}.{}", PAIR, 1.0, "lycoris"),
        ("{}.{}", PEFT, 8.0, "bare"),
        ("{}.{}", DIFFSYNTH, None, "bare"),
    ],
)
def test_a_foreign_lora_is_scaled_by_alpha_over_rank(
    pattern: str, names: dict[str, str], alpha: float | None, format: str, tmp_path: Path
) -> None:
    state = lora_state(LAYERS, rank=4)
    tensors = renamed(state, pattern, **names)
    path = put(tmp_path / "a.safetensors", with_alpha(tensors, alpha) if alpha else tensors)
    back, facts = read(path, LAYERS)
    assert (facts.format, facts.kind, facts.modules, facts.factor) == (format, "lora", 6, None)
    for layer, dw in deltas(state).items():
        torch.testing.assert_close(deltas(back)[layer], dw * (alpha or 4) / 4)


@pytest.mark.parametrize(
    ("pattern", "format"),
    [
        (AI, "ai-toolkit"), (DIFFUSERS, "onetrainer"), ("lora_unet_{}.{}", "musubi"),
        ("lycoris_{}.{}", "lycoris"), ("{}.{}", "bare"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("alpha", [1.0, 1e10, math.inf])
def test_alpha_of_whole_factors_is_ignored(
    pattern: str, format: str, alpha: float, tmp_path: Path
) -> None:
    state = lokr_state(LAYERS)
    tensors = with_alpha(renamed(state, pattern), alpha)
    back, facts = read(put(tmp_path / "a.safetensors", tensors), LAYERS)
    assert (facts.format, facts.kind, facts.factor) == (format, "lokr", 8)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


@pytest.mark.parametrize("pattern", [AI, "lycoris_{}.{}"])
@pytest.mark.parametrize("both", [False, True])
def test_alpha_of_low_rank_factors_counts(pattern: str, both: bool, tmp_path: Path) -> None:
    """LyCORIS: alpha / rank where w2, or w1 and w2, are products; w2's rank where they differ."""
    state = lokr_state(LAYERS, rank=2)
    foreign = dict(state)
    if both:
        for key in [k for k in state if k.endswith("lokr_w1")]:
            w1 = foreign.pop(key)
            u, s, v = torch.linalg.svd(w1)
            foreign |= {f"{key}_a": (u * s)[:, :3], f"{key}_b": v[:3]}
            state[key] = (u * s)[:, :3] @ v[:3]
    tensors = with_alpha(renamed(foreign, pattern), 0.5)
    back, _ = read(put(tmp_path / "a.safetensors", tensors), LAYERS)
    for layer, dw in deltas(state).items():
        torch.testing.assert_close(deltas(back)[layer], dw * 0.25, rtol=1e-5, atol=1e-7)
    # as ComfyUI multiplies it out, by its own rule
    ai = with_alpha(renamed(foreign, AI), 0.5)
    theirs = comfy.difference(f"diffusion_model.{W1}", ai)
    assert theirs is not None
    torch.testing.assert_close(deltas(back)[W1], theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("pattern", [AI, "lora_unet_{}.{}"])
def test_a_fused_lora_is_split_and_a_fused_lokr_is_not(pattern: str, tmp_path: Path) -> None:
    """The original code's names: its qkv rows are to_q, to_k and to_v, its out is to_out.0."""
    native = {"layers.0.attention.qkv": (96, 32), "layers.0.attention.out": (32, 32)}
    state = lora_state(native)
    tensors = with_alpha(renamed(state, pattern, **PAIR), 2.0)
    back, facts = read(put(tmp_path / "a.safetensors", tensors), LAYERS)
    assert facts.modules == 4
    dw, wanted = deltas(back), deltas(state)
    fused = torch.cat([dw[Q], dw[K], dw[V]])
    torch.testing.assert_close(fused, wanted["layers.0.attention.qkv"] / 2)
    torch.testing.assert_close(dw[OUT], wanted["layers.0.attention.out"] / 2)
    whole = put(tmp_path / "b.safetensors", renamed(lokr_state(native), pattern))
    with pytest.raises(UserError, match=r"layers\.0\.attention\.qkv is fused, and only a LoRA can"):
        read(whole, LAYERS)


def lokr(**more: Tensor) -> dict[str, Tensor]:
    state = lokr_state({Q: (32, 32), W1: (96, 32)})
    return renamed(state, AI) | {f"diffusion_model.{k}": v for k, v in more.items()}


ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "is empty, so 0 modules would be adapted"),
        (lokr(**{f"{Q}.dora_scale": ONE}), rf"{Q}\.dora_scale is of no format .*: DoRA"),
        (lokr(**{f"{Q}.lokr_t2": ONE}), rf"{Q}\.lokr_t2 is of no format .*: a Tucker"),
        (lokr(**{"layers.0.attention_norm1.diff": ONE}), r"norm1\.diff is of no format .*: whole"),
        (lokr(**{f"{Q}.hada_w1_a": ONE}), rf"{Q}\.hada_w1_a is of no format .*: LoHa"),
        (lokr(**{f"{Q}.guess": ONE}), rf"{Q}\.guess is of no format that can be read"),
        (lokr() | {f"transformer.{K}.lokr_w1": ONE}, rf"transformer\.{K}\.lokr_w1 is of no format"),
        (lokr(**{"layers.9.attention.to_q.lokr_w1": ONE}),
         r"no place for 1 of its 5 tensors, the first is layers\.9\.attention\.to_q\.lokr_w1"),
        (lokr(**{f"{Q}.lokr_w1": torch.full((8, 8), math.inf)}), rf"{Q}\.lokr_w1 has numbers that"),
        (lokr(**{f"{Q}.lokr_w1": torch.ones(8, 8, dtype=torch.int8)}), "no floating-point type"),
        (lokr(**{f"{Q}.lokr_w1": torch.ones(4, 4)}),
         rf"{Q} is \(16, 16\) in it and \(32, 32\) in the model"),
        (renamed(lokr_state({Q: (32, 32)}, 8) | lokr_state({W1: (96, 32)}, 4), AI),
         rf"{Q} is split as 8 x 4 by 8 x 4 and {W1} as 4 x 24"),
        (renamed({f"{Q}.lora_A": torch.ones(4, 32)}, AI, **PEFT), rf"{Q} has the factors lora_A;"),
        (renamed(lora_state({Q: (32, 32)}), AI, **PEFT)
         | {f"diffusion_model.{Q}.alpha": torch.tensor(math.inf)}, rf"{Q}\.alpha is inf"),
        (renamed(lora_state({Q: (32, 32)}), AI, **PEFT)
         | renamed(lora_state({Q: (32, 32)}), AI, **PAIR), f"gives a factor of {Q} twice"),
        (renamed(lora_state({Q: (32, 32)}), AI, **PEFT)
         | {f"diffusion_model.{Q}.lora_B.weight": torch.ones(32, 5)}, "have no common rank"),
        (renamed(lora_state({Q: (32, 32)}) | lokr_state({W1: (96, 32)}), AI, **PEFT),
         "both LoKr and LoRA"),
        (renamed(lora_state(LAYERS), "base_model.model.{}.{}", **PEFT),
         "whose scale is in adapter_config.json"),
        (renamed(lora_state({Q: (32, 32)}), AI, **PEFT)
         | {f"diffusion_model.{Q}.alpha": torch.tensor(0.0)}, "changes 0 modules, for its factors"),
        (renamed(lora_state({Q: (32, 32)}), AI, **PEFT)
         | {f"diffusion_model.{Q}.alpha": torch.tensor(1j)}, rf"{Q}\.alpha must be one number"),
        (renamed({f"{Q}.lora_A": torch.ones(1, 32), f"{Q}.lora_B": torch.full((32, 1), 3e38)}, AI,
         **PEFT) | {f"diffusion_model.{Q}.alpha": torch.tensor(1e10)},
         rf"{Q} times its scale, 1e\+10, is not finite"),
        (with_alpha(renamed({f"{Q}.lora_A": torch.ones(0, 32), f"{Q}.lora_B": torch.ones(32, 0)},
         AI, **PEFT), 1.0), rf"{Q}\.lora_A\.weight must be a matrix, got the shape \(0, 32\)"),
        (with_alpha(renamed({f"{Q}.lora_A": torch.ones(()), f"{Q}.lora_B": torch.ones(())},
         AI, **PEFT), 1.0), rf"{Q}\.lora_A\.weight must be a matrix, got the shape \(\)"),
        (renamed({f"{Q}.lokr_w1_a": torch.ones(8, 2), f"{Q}.lokr_w1_b": torch.ones(3, 8),
         f"{Q}.lokr_w2": torch.ones(4, 4)}, AI), rf"{Q}: lokr_w1_a \(8, 2\) .* no common rank"),
    ],
)  # fmt: skip
def test_what_would_not_take_effect_as_a_whole_is_refused(
    tensors: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    path = put(tmp_path / "a.safetensors", tensors)
    with pytest.raises(UserError, match=said) as caught:
        read(path, LAYERS)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "alpha", "said"),
    [
        (
            '{"transformer.r": 4, "transformer.lora_alpha": 2}',
            1.0,
            "has an .alpha beside the config",
        ),
        ('{"transformer.r": 4, "transformer.lora_alpha": 2, "use_dora": true}', None, "is a DoRA"),
        ('{"transformer.r": 4}', None, "the config of peft has no number alpha"),
        ('{"r": 4, "lora_alpha": true}', None, "the config of peft has no number lora_alpha"),
        ('{"r": 4, "lora_alpha": NaN}', None, rf"lora_alpha in .* is nan for {Q}, which is no sc"),
        ('{"r": 0, "lora_alpha": 1}', None, rf"r in the config of peft is 0 for {Q}, which is no"),
        ('{"r": 4, "lora_alpha": 1, "alpha_pattern": {"(": 1}}', None, "alpha_pattern in the conf"),
        ('{"r": 4, "lora_alpha": 1, "rank_pattern": [2]}', None, "rank_pattern in the config of"),
        ("null", None, "the config of peft cannot be read"),
        ("[4]", None, "the config of peft cannot be read"),
        ("{", None, "the config of peft cannot be read"),
    ],
)
def test_a_config_in_the_header_that_says_no_scale_is_refused(
    config: str, alpha: float | None, said: str, tmp_path: Path
) -> None:
    tensors = renamed(lora_state({Q: (32, 32)}), DIFFUSERS, **PEFT)
    path = tmp_path / "a.safetensors"
    header = {"lora_adapter_metadata": config}
    save_file(with_alpha(tensors, alpha) if alpha else tensors, path, metadata=header)
    with pytest.raises(UserError, match=said):
        read(path, LAYERS)
    # the same as peft writes it: into a file beside
    own = renamed(lora_state({Q: (32, 32)}), "base_model.model.{}.{}", **PEFT)
    save_file(with_alpha(own, alpha) if alpha else own, path)
    (tmp_path / "adapter_config.json").write_text(config.replace("transformer.", ""))
    with pytest.raises(UserError, match=said):
        read(path, LAYERS)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.ckpt"])
def test_pickles_are_not_opened(name: str, tmp_path: Path) -> None:
    torch.save({}, tmp_path / name)
    with pytest.raises(UserError, match="is a pickle, which can run code"):
        read(tmp_path / name, LAYERS)
