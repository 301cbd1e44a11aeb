"""docs/gate.md: its snippets, as they stand there, on a real Z-Image with an adapter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ZImagePipeline
from tests.lora import CARD, in_blocks, lokr_state, merged
from tests.tiny import tiny_zimage
from torch import Tensor
from torch.testing import assert_close

from fewstep.evaluate.gallery import from_bytes
from fewstep.evaluate.grids import to_bytes
from fewstep.families.adapter_check import save
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.flow import sample
from fewstep.nets.adapters import AdapterConfig, adapt, load_adapter_state
from fewstep.nets.share import share

DOCUMENT = Path(__file__).parents[2] / "docs/gate.md"
THEIRS, OURS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
PROMPT = "a red circle and a blue square on a white background"
SIZE = {"height": 64, "width": 64}
STRENGTHS = (1, 1, 0, 0, 0, 0, 0, 0)
LEVEL = 1 / 255
SPREAD = 0.1
"""Standard deviation of the adapter's dW: the early steps are short, so it must be large."""


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


@pytest.fixture(scope="module")
def student(family: ZImage) -> ZImageBackbone:
    """The model under an adapter that changes pictures a lot."""
    assert isinstance(family.backbone, ZImageBackbone)
    tree = share(family.backbone)
    adapt(tree, AdapterConfig(factor=8), seed=0)
    load_adapter_state(tree, lokr_state(in_blocks(family), factor=8, size=SPREAD))
    return tree


@pytest.fixture(scope="module")
def folder(family: ZImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's directory and the adapter's file."""
    here = tmp_path_factory.mktemp("gate")
    state = lokr_state(in_blocks(family), factor=8, size=SPREAD)
    save(here / "sda.safetensors", state, CARD, family, merged(family, state))
    family.save(here / "model", family.backbone)
    return here


def noise() -> Tensor:
    """What the pipeline draws from this generator."""
    return torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def by_ours(family: ZImage, student: ZImageBackbone, strengths: tuple[float, ...]) -> Tensor:
    names: dict[str, Any] = {
        "student": student, "STRENGTHS": strengths, "eps": noise(),
        "cond": family.encode_text([PROMPT]), "sigmas": family.sigmas(len(strengths)),
    }  # fmt: skip
    exec(OURS, names)
    return family.decode(names["x0"])


def by_theirs(pipe: Any, snippet: str = THEIRS) -> Tensor:
    names: dict[str, Any] = {
        "pipe": pipe, "prompt": PROMPT, "size": SIZE,
        "generator": torch.Generator().manual_seed(7),
    }  # fmt: skip
    exec(snippet, names)
    assert tuple(names["STRENGTHS"]) == STRENGTHS
    return from_bytes(np.array(names["image"])[None])


def test_the_snippets_are_short() -> None:
    assert len(THEIRS.splitlines()) <= 15 and len(OURS.splitlines()) <= 15


def test_users_of_diffusers_get_the_pictures_of_our_gated_sampler(
    family: ZImage, student: ZImageBackbone, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are rounded to eight bits: a picture differs by one of 255 levels at most, and by more
    than five from one that is gated in another way."""
    monkeypatch.chdir(folder)
    pipe: Any = ZImagePipeline.from_pretrained(folder / "model")
    pipe.set_progress_bar_config(disable=True)
    ours = by_ours(family, student, STRENGTHS)
    theirs = by_theirs(pipe)
    assert_close(theirs, from_bytes(to_bytes(ours)), atol=1.01 * LEVEL, rtol=0)

    others = [(1,) * 8, (0,) * 8, (1,) + (0,) * 7, (1, 1, 1) + (0,) * 5, (0, 1) + (0,) * 6]
    for other in others:
        difference = (by_ours(family, student, other) - ours).abs().max()
        assert difference > 5 * LEVEL, other

    # what is left behind is the last strength, so a second picture needs the line before the call
    again = THEIRS.replace("pipe.load_lora_weights", "(lambda *_, **__: None)")
    assert torch.equal(by_theirs(pipe, again), theirs)
    forgotten = again.replace('pipe.set_adapters(["sda"], [STRENGTHS[0]])', "")
    assert forgotten != again
    late = from_bytes(to_bytes(by_ours(family, student, (0, 1) + (0,) * 6)))
    assert_close(by_theirs(pipe, forgotten), late, atol=1.01 * LEVEL, rtol=0)


@torch.no_grad()
def test_a_gate_of_ones_is_the_adapter_and_one_of_zeros_the_base(
    family: ZImage, student: ZImageBackbone
) -> None:
    cond, grid = family.encode_text([PROMPT]), family.sigmas(4)
    for strength, backbone in ((1.0, student), (0.0, family.backbone)):
        alone = sample.euler(lambda x, s, b=backbone: b(x, s, cond), noise(), grid)
        assert torch.equal(by_ours(family, student, (strength,) * 4), family.decode(alone))


@torch.no_grad()
def test_gating_leaves_the_students_strength_alone(family: ZImage, student: ZImageBackbone) -> None:
    cond = family.encode_text([PROMPT])
    before = student(noise(), torch.ones(1), cond)
    by_ours(family, student, (0.5, 0.25))
    assert torch.equal(student(noise(), torch.ones(1), cond), before)


@torch.no_grad()
def test_each_step_has_the_weights_of_its_strength(family: ZImage, student: ZImageBackbone) -> None:
    """Against W + strength dW, step by step."""
    strengths, grid = (1.0, 0.5, 0.0, -0.5), family.sigmas(4)
    cond, x = family.encode_text([PROMPT]), noise()
    state = lokr_state(in_blocks(family), factor=8, size=SPREAD)
    for strength, here, there in zip(strengths, grid, grid[1:], strict=False):
        v = merged(family, state, strength)(x, torch.full((1,), here), cond)
        x = x + (there - here) * v
    assert_close(by_ours(family, student, strengths), family.decode(x), atol=1e-4, rtol=1e-4)
