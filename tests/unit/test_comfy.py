"""ComfyUI's rules: which names it knows and how it scales."""

from __future__ import annotations

import torch
from tests.lora import deltas, lokr_state, lora_state
from tests.unit.test_adapter_formats import AI, DIFFUSERS, PAIR, PEFT, W1, K, renamed, with_alpha

from fewstep.families import comfy

CONFIG = {"dim": 32, "n_layers": 1, "n_refiner_layers": 0}


def test_comfyui_knows_which_names() -> None:
    """The compatibility of its own table: underscored split names of kohya are dropped."""
    names, state = comfy.key_map(CONFIG), lokr_state({K: (32, 32)})
    for pattern in (AI, DIFFUSERS, "lycoris_{}.{}", "{}.{}"):
        tensors = with_alpha(renamed(state, pattern), 1.0)
        assert not comfy.not_loaded(tensors, names) and len(comfy.reached(tensors, names)) == 1
        whole = comfy.patched("layers.0.attention.qkv", torch.zeros(96, 32), tensors, names)
        rows = whole.split(32)
        assert torch.equal(rows[1], deltas(state)[K]) and not rows[0].any() and not rows[2].any()
    for pattern in ("lora_unet_{}.{}", "base_model.model.{}.{}"):
        dropped = renamed(state, pattern)
        assert comfy.not_loaded(dropped, names) == sorted(dropped)


def test_comfyui_scales_a_lora_by_alpha_over_rank() -> None:
    state = lora_state({W1: (96, 32)})
    names, dw = comfy.key_map(CONFIG), deltas(state)[W1]
    for tensors, scale in (
        (renamed(state, AI, **PEFT), 1.0),
        (with_alpha(renamed(state, "lora_unet_{}.{}", **PAIR), 2.0), 0.5),
    ):
        base = torch.ones(96, 32)
        found = comfy.patched("layers.0.feed_forward.w1", base, tensors, names)
        torch.testing.assert_close(found, 1 + scale * dw)
        assert torch.equal(base, torch.ones(96, 32)), "the base is left as it is"
