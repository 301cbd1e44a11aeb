"""Adapters on one diffusers pipeline against our own stack of the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ZImagePipeline
from tests.adapted import cond, noise, relative
from tests.lora import CARD, in_blocks, lokr_state, lora_state, merged
from tests.tiny import tiny_zimage
from torch import Tensor
from torch.testing import assert_close

from fewstep.evaluate.gallery import from_bytes
from fewstep.evaluate.grids import to_bytes
from fewstep.experiment.trees import stacked, state_of
from fewstep.families.adapter_files import write
from fewstep.families.adapters import Gate, Gated, Strength, attach, scale
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.flow import sample

PROMPT = "a red circle and a blue square on a white background"
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


@pytest.fixture(scope="module")
def folder(family: ZImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, an adapter as SDA makes it (LoKr) and one as SFT may (LoRA)."""
    here = tmp_path_factory.mktemp("stack")
    write(here / "sda.safetensors", lokr_state(in_blocks(family), size=0.1), CARD)
    write(here / "sft.safetensors", lora_state(in_blocks(family, "to_q", "w1"), size=0.1), CARD)
    family.save(here / "model", family.backbone)
    return here


def ours(family: ZImage, folder: Path, *strengths: Strength, steps: int = 4):
    states = [state_of(family, folder / f"{name}.safetensors") for name in ("sda", "sft")]
    return stacked(family, states[: len(strengths)], strengths, steps)


@pytest.mark.parametrize("order", [("sda", "sft"), ("sft", "sda")])
@torch.no_grad()
def test_two_files_in_diffusers_are_our_stack(
    family: ZImage, folder: Path, order: tuple[str, str]
) -> None:
    pipe: Any = ZImagePipeline.from_pretrained(folder / "model")
    for name in order:
        pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
    theirs, text, x = ZImageBackbone(pipe.transformer), cond(family.backbone), noise()  # pyright: ignore
    at = torch.tensor([0.9, 0.3])
    found: list[Tensor] = []
    for strengths in ((0.7, 1.0), (0.7, 0.0), (0.0, 1.0), (1.0, -0.5)):
        pipe.set_adapters(["sda", "sft"], list(strengths))
        own = ours(family, folder, *strengths)(x, at, text)
        assert relative(own, theirs(x, at, text)) < 1e-5, strengths
        found.append(own)
    plain = family.backbone(x, at, text)
    assert all(relative(v, other) > 0.01 for v in found for other in (plain,))
    assert relative(found[0], found[1]) > 0.01 and relative(found[0], found[2]) > 0.01


@torch.no_grad()
def test_a_gated_stack_is_the_callback_of_diffusers(family: ZImage, folder: Path) -> None:
    """One adapter gated as in docs/gate.md, the other on throughout; pictures of eight bits."""
    gate, rest = Gate((1, 1, *(0,) * 6)), 0.5
    pipe: Any = ZImagePipeline.from_pretrained(folder / "model")
    pipe.set_progress_bar_config(disable=True)
    for name in ("sda", "sft"):
        pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)

    def callback(pipe: Any, step: int, timestep: object, tensors: dict[str, Tensor]) -> Any:
        if step + 1 < 8:
            pipe.set_adapters(["sda", "sft"], [gate.strengths[step + 1], rest])
        return tensors

    pipe.set_adapters(["sda", "sft"], [gate.strengths[0], rest])
    picture = pipe(
        PROMPT, height=64, width=64, generator=torch.Generator().manual_seed(7),
        num_inference_steps=8, guidance_scale=0.0, callback_on_step_end=callback,
    ).images[0]  # fmt: skip
    theirs = from_bytes(np.array(picture)[None])

    eps = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(7))
    text = family.encode_text([PROMPT])

    def drawn(*strengths: Strength) -> Tensor:
        tree = ours(family, folder, *strengths, steps=8)
        x0 = sample.euler(lambda x, s: tree(x, s, text), eps, family.sigmas(8))
        return from_bytes(to_bytes(family.decode(x0)))

    assert_close(theirs, drawn(gate, rest), atol=1.01 * LEVEL, rtol=0)
    for other in ((1.0, rest), (gate, 0.0), (Gate((1, *(0,) * 7)), rest)):
        assert (theirs - drawn(*other)).abs().max() > 3 * LEVEL, other


@torch.no_grad()
def test_the_gate_of_eval_is_the_gate_of_sample(family: ZImage, folder: Path) -> None:
    """The one through peft's layers, the other through ours, step by step against W + s dW."""
    gate = Gate((1, 0.5, 0, -0.5))
    other = ZImage.load(folder / "model")
    attach(other, folder / "sda.safetensors")
    scale(other, 0.25)  # a strength of before leaves no trace
    scale(other, gate)
    theirs, own = other.backbone, ours(family, folder, gate)
    assert isinstance(theirs, Gated) and isinstance(own, Gated)
    text, x = cond(family.backbone), noise()  # pyright: ignore
    state = lokr_state(in_blocks(family), size=0.1)
    for sigma, strength in zip(family.sigmas(4), gate.strengths, strict=False):
        at = torch.full((2,), sigma)
        right = merged(family, state, strength)(x, at, text)
        assert relative(theirs(x, at, text), right) < 1e-5
        assert relative(own(x, at, text), right) < 1e-5
    stored = {p.data_ptr() for p in other.pipeline.transformer.parameters()}
    assert {p.data_ptr() for p in theirs.parameters()} == stored
    scale(other, 0.5)
    at = torch.full((2,), 1.0)
    assert relative(other.backbone(x, at, text), merged(family, state, 0.5)(x, at, text)) < 1e-5
    damped = [tree.damped(factor=0.2, block=1, above=0.0) for tree in (theirs, own)]
    assert relative(damped[0](x, at, text), damped[1](x, at, text)) < 1e-5
    assert relative(damped[0](x, at, text), own(x, at, text)) > 1e-3
