"""An adapter file is checked by its readers: diffusers' real loader and ComfyUI's rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from tests.lora import CARD, deltas, in_blocks, lokr_state, lora_state, merged
from tests.tiny import tiny_zimage
from torch import Tensor

from fewstep.errors import UserError
from fewstep.families.adapter_check import check, fresh, save, velocity, verdict_path
from fewstep.families.adapter_files import write
from fewstep.families.adapter_formats import read
from fewstep.families.adapter_lora import to_lora
from fewstep.families.adapter_state import by_layer, linear_layers
from fewstep.families.zimage import ZImage
from fewstep.nets.adapters import AdapterConfig, adapt, adapter_state
from fewstep.nets.share import share
from fewstep.runs import RunError


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


State = dict[str, Tensor]
KINDS: dict[str, Callable[[ZImage], State]] = {
    "whole": lambda f: lokr_state(in_blocks(f)),
    "low rank": lambda f: lokr_state(in_blocks(f), rank=3),
    "even split": lambda f: lokr_state(in_blocks(f), -1),
    "of all layers": lambda f: lokr_state(linear_layers(f.pipeline.transformer), size=0.01),
    "lora": lambda f: lora_state(in_blocks(f)),
    "lora of two ranks": lambda f: lora_state(in_blocks(f), 4) | lora_state(in_blocks(f, "w1"), 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_readers_get_what_was_trained(family: ZImage, kind: str, tmp_path: Path) -> None:
    state, path = KINDS[kind](family), tmp_path / "a.safetensors"
    verdict = save(path, state, CARD, family, merged(family, state))
    assert verdict.modules == verdict.diffusers_modules == verdict.comfyui_modules
    assert verdict.modules == len(by_layer(state)) >= 48
    assert verdict.comfyui_weight_error == 0 and verdict.diffusers_weight_error < 1e-6
    assert verdict.velocity_change > 0.1 and verdict.velocity_error < 1e-5
    written = json.loads(verdict_path(path).read_text())
    assert written == json.loads(json.dumps(asdict(verdict)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, f"{path.name}.verdict.json"]
    back, facts = read(path, linear_layers(family.pipeline.transformer))
    assert (facts.format, facts.modules, facts.kind) == ("fewstep", verdict.modules, verdict.kind)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


def test_a_rank_of_half_a_factor_is_written_whole(family: ZImage, tmp_path: Path) -> None:
    """Trap: peft makes a whole w2 from that rank on, and diffusers drops the halves of the file."""
    layers = in_blocks(family, "to_q")
    halves = lokr_state(layers, rank=8)
    raw = {f"diffusion_model.{k}": v.contiguous() for k, v in halves.items()}
    save_file(raw, tmp_path / "raw.safetensors")
    with pytest.raises(UserError, match=r"diffusers finds no numbers for .*to_q\.lokr_w2"):
        check(tmp_path / "raw.safetensors", halves, family, merged(family, halves))
    verdict = save(tmp_path / "a.safetensors", halves, CARD, family, merged(family, halves))
    assert "diffusion_model.layers.0.attention.to_q.lokr_w2" in load_file(
        tmp_path / "a.safetensors"
    )
    # the product is rounded where the halves would have been
    assert verdict.velocity_error < 0.01 * verdict.velocity_change


def test_the_adapter_that_was_trained_is_what_the_readers_get(
    family: ZImage, tmp_path: Path
) -> None:
    """Through `nets.adapters`, in float32: what the file loses is bfloat16's rounding."""
    for config in (
        AdapterConfig(), AdapterConfig(rank=4), AdapterConfig(kind="lora", rank=4),
        AdapterConfig(targets=("text",), factor=4), AdapterConfig(targets=("text", "attention")),
    ):  # fmt: skip
        adapted: Any = share(family.backbone)
        names = adapt(adapted, config, seed=0)
        draws = torch.Generator().manual_seed(1)
        state = adapter_state(adapted)
        for tensor in state.values():
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=draws))
        verdict = save(tmp_path / "a.safetensors", state, CARD, family, adapted)
        of_text = 8 * ("text" in config.targets)
        in_blocks = 6 * 8 if len(config.targets) == 3 else 6 * 4 * ("attention" in config.targets)
        assert verdict.modules == len(names) == of_text + in_blocks
        assert 1e-5 < verdict.velocity_error < 0.01 * verdict.velocity_change


def test_an_adapter_that_has_not_begun_is_written_too(family: ZImage, tmp_path: Path) -> None:
    adapted: Any = share(family.backbone)
    adapt(adapted, AdapterConfig(), seed=0)
    verdict = save(tmp_path / "a.safetensors", adapter_state(adapted), CARD, family, adapted)
    assert verdict.velocity_change == verdict.velocity_error == 0 and verdict.modules == 48


def test_a_bfloat16_model_is_checked_in_its_own_precision(tmp_path: Path) -> None:
    family = tiny_zimage()
    family.pipeline.transformer.bfloat16()
    state = lokr_state(in_blocks(family))
    verdict = save(tmp_path / "a.safetensors", state, CARD, family, merged(family, state))
    assert verdict.dtype == "bfloat16" and verdict.comfyui_weight_error == 0
    assert verdict.diffusers_weight_error < 2**-8 and verdict.velocity_error < 0.04


def tampered(path: Path, change: Callable[[State], State]) -> None:
    save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)


def swap(tensors: State) -> State:
    names = {"to_q": "to_k", "to_k": "to_q"}
    return {
        next((k.replace(a, b) for a, b in names.items() if a in k), k): v
        for k, v in tensors.items()
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap, r"diffusers' weights are \S+ off; ComfyUI's weights are \S+ off; the velocity is"),
        (lambda t: {k: v * 1.03 if "w1" in k[-2:] else v for k, v in t.items()},
         r"diffusers' weights are 0.0\d+ off; ComfyUI's weights are 0.0\d+ off; the velocity"),
        (lambda t: {k: v for k, v in t.items() if "layers.2." not in k},
         "diffusers adapts 40 modules of 48; ComfyUI adapts 40 modules of 48"),
        (lambda t: {k.replace("diffusion_model.", "base_model.model."): v for k, v in t.items()},
         "ComfyUI would drop 96 keys, the first is base_model"),
        (lambda t: {k.removeprefix("diffusion_model."): v for k, v in t.items()},
         "diffusers adapts 0 modules of 48"),
        (lambda t: {k.replace("diffusion_model", "transformer"): v for k, v in t.items()}
         | {"transformer.layers.0.attention.to_q.alpha": torch.ones(())},
         "diffusers does not load the adapter"),
    ],
)  # fmt: skip
def test_a_file_that_a_reader_takes_otherwise_fails_its_check(
    change: Callable[[State], State], said: str, family: ZImage, tmp_path: Path
) -> None:
    state, path = lokr_state(in_blocks(family)), tmp_path / "a.safetensors"
    write(path, state, CARD)
    check(path, state, family, merged(family, state))
    tampered(path, change)
    with pytest.raises(UserError, match=said):
        check(path, state, family, merged(family, state))


def test_a_mismatch_leaves_the_old_file_alone(family: ZImage, tmp_path: Path) -> None:
    """Here the state is not that of the adapted model."""
    path, state = tmp_path / "a.safetensors", lokr_state(in_blocks(family))
    other = merged(family, state, strength=0.95)
    with pytest.raises(UserError, match=r"\(the velocity is \S+ off where .*please report this"):
        save(path, state, CARD, family, other)
    assert not list(tmp_path.iterdir())
    save(path, state, CARD, family, merged(family, state))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match="does not read back"):
        save(path, state, CARD, family, other)
    with pytest.raises(ValueError, match="not finite"):
        save(path, {k: v * torch.nan for k, v in state.items()}, CARD, family, other)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before and len(before) == 2


def test_a_folder_that_is_none_is_said_in_one_sentence(family: ZImage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    state = lora_state(in_blocks(family, "to_q"))
    with pytest.raises(RunError, match=r"could not write .*a\.safetensors: Not a directory"):
        save(tmp_path / "file" / "a.safetensors", state, CARD, family, family.backbone)


def test_a_check_leaves_the_base_alone(family: ZImage, tmp_path: Path) -> None:
    before = family.fingerprint()
    state = lokr_state(in_blocks(family))
    adapted = merged(family, state)
    family.pipeline.transformer.requires_grad_(True)
    try:
        save(tmp_path / "a.safetensors", state, CARD, family, adapted)
        transformer = family.pipeline.transformer
        assert all(p.requires_grad for p in transformer.parameters())
        assert not any(isinstance(m, BaseTunerLayer) for m in transformer.modules())
    finally:
        family.pipeline.transformer.requires_grad_(False)
    assert family.fingerprint() == before
    with pytest.raises(UserError, match=r"changes layers\.0\.x .*, which is no layer in the base"):
        check(tmp_path / "a.safetensors", lora_state({"layers.0.x": (8, 8)}), family, adapted)
    loaded = ZImage(fresh(family), None)
    loaded.pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    with pytest.raises(ValueError, match="the base model of a check must have no adapters"):
        check(tmp_path / "a.safetensors", state, loaded, adapted)


def test_a_lokr_as_a_lora_is_as_far_off_as_it_says(family: ZImage, tmp_path: Path) -> None:
    state = lokr_state(in_blocks(family))
    lora, loss = to_lora(state, 16)
    save(tmp_path / "a.safetensors", lora, CARD, family, merged(family, lora))
    back = deltas(read(tmp_path / "a.safetensors", in_blocks(family))[0])
    wanted = deltas(state)
    off = sum((back[layer] - dw).square().sum() for layer, dw in wanted.items())
    size = sum(dw.square().sum() for dw in wanted.values())
    # 1e-3 is the file's rounding
    assert (off / size) ** 0.5 == pytest.approx(loss.overall, abs=1e-3)


def test_velocity_tells_adapters_apart(family: ZImage) -> None:
    """The fixed input of a check is one at which a wrong adapter is seen."""
    state = lokr_state(in_blocks(family))
    plain, one, other = (
        velocity(model, family)
        for model in (family.backbone, merged(family, state), merged(family, swap(state)))
    )
    assert (one - plain).abs().max() > 0.1 and (one - other).abs().max() > 0.1


def test_words_of_any_script_survive_the_header(family: ZImage, tmp_path: Path) -> None:
    state = lora_state(in_blocks(family, "to_q"))
    write(tmp_path / "a.safetensors", state, replace(CARD, trigger_words=("élan", "水彩")))
    _, facts = read(tmp_path / "a.safetensors", in_blocks(family))
    assert facts.header["trigger_words"] == "élan, 水彩" and facts.header["recipe"] == CARD.recipe
