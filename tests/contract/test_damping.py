"""Damping of the spatial mean on a real Z-Image at tiny size."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_zimage
from tests.toy import ToyBackbone
from torch import Tensor
from torch.testing import assert_close

from fewstep.families.base import Cond
from fewstep.families.damping import DampedZImage
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.families.zimage_fused import FusedZImage

PROMPTS = ["a red circle and a blue square on a white background", "two green stars"]
SIGMA = torch.tensor([0.95, 0.3])
BLOCK, ABOVE = 2, 0.5


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def noise(side: int = 16) -> Tensor:
    return torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(0))


def damped(family: ZImage, factor: float = 0.3, above: float = ABOVE) -> DampedZImage:
    return DampedZImage(family.backbone, factor=factor, block=BLOCK, above=above)


def two_lengths(family: ZImage) -> Cond:
    return family.encode_text([PROMPTS[0], " and ".join(["a red circle"] * 10)])


@torch.no_grad()
def test_factor_one_is_the_plain_backbone_bit_for_bit(family: ZImage) -> None:
    cond, one = family.encode_text(PROMPTS), damped(family, factor=1.0)
    assert torch.equal(one(noise(), SIGMA, cond), family.backbone(noise(), SIGMA, cond))


@pytest.mark.parametrize("side", [16, 12])  # 36 image tokens: the model pads them to 64
@torch.no_grad()
def test_the_mean_of_the_image_tokens_is_multiplied_and_nothing_else(
    family: ZImage, side: int
) -> None:
    cond, layers = two_lengths(family), [BLOCK - 1, BLOCK]
    sigma = torch.tensor([0.95, 0.6])
    before = family.backbone.features(noise(side), sigma, cond, layers)
    after = damped(family).features(noise(side), sigma, cond, layers)
    assert torch.equal(after[0], before[0]), "blocks before it are as they were"
    mean = before[1].mean(1, keepdim=True)
    assert_close(after[1].mean(1, keepdim=True), 0.3 * mean, atol=1e-5, rtol=1e-4)
    assert_close(after[1] - 0.3 * mean, before[1] - mean, atol=1e-5, rtol=1e-4)
    assert mean.norm() > 0.1 * before[1][:, :1].norm(), "there is a mean to damp"


@pytest.mark.parametrize("side", [16, 12])
@torch.no_grad()
def test_padding_and_text_are_left_alone(family: ZImage, side: int) -> None:
    """Seen by a hook of our own on the next block's input."""
    seen: list[Tensor] = []
    block = family.pipeline.transformer.layers[BLOCK + 1]
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    cond = two_lengths(family)
    try:
        family.backbone(noise(side), SIGMA, cond)
        damped(family)(noise(side), SIGMA, cond)
    finally:
        handle.remove()
    n = (side // 2) ** 2
    before, after = seen
    assert before.shape[1] > n
    assert torch.equal(before[:, n:], after[:, n:])
    assert not torch.allclose(before[0, :n], after[0, :n])


@torch.no_grad()
def test_the_velocity_is_that_of_damped_tokens_run_on(family: ZImage) -> None:
    """Against the blocks called one by one on tokens that were damped by hand."""
    inputs: dict[int, tuple] = {}
    transformer = family.pipeline.transformer
    handles = [
        layer.register_forward_pre_hook(lambda _, a, i=i: inputs.__setitem__(i, a))
        for i, layer in enumerate(transformer.layers)
    ]
    cond = family.encode_text(PROMPTS)
    family.backbone(noise(), SIGMA, cond)
    for handle in handles:
        handle.remove()
    tokens, n = inputs[BLOCK + 1][0].clone(), 64
    tokens[0, :n] += (0.3 - 1) * tokens[0, :n].mean(0)
    for i in range(BLOCK + 1, family.backbone.depth):
        tokens = transformer.layers[i](tokens, *inputs[i][1:])
    adaln = inputs[BLOCK + 1][3]
    out = transformer.all_final_layer["2-1"](tokens, c=adaln)[:, :n]
    out = out.view(2, 8, 8, 2, 2, 8).permute(0, 5, 1, 3, 2, 4).reshape(2, 8, 16, 16)
    assert_close(damped(family)(noise(), SIGMA, cond), -out, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_levels_decide_sample_by_sample(family: ZImage) -> None:
    """The second sample lies below the threshold; the threshold itself is not above it."""
    cond = family.encode_text(PROMPTS)
    plain, after = family.backbone(noise(), SIGMA, cond), damped(family)(noise(), SIGMA, cond)
    assert torch.equal(after[1], plain[1])
    assert (after[0] - plain[0]).norm() > 0.01 * plain[0].norm()
    for level in (0.1, 0.9):  # more and less than themselves in float32
        sigma = torch.full((2,), level)
        at = damped(family, above=level)(noise(), sigma, cond)
        assert torch.equal(at, family.backbone(noise(), sigma, cond))


@torch.no_grad()
def test_a_row_of_a_batch_is_the_batch_of_one(family: ZImage) -> None:
    cond, backbone = two_lengths(family), damped(family)
    together = backbone(noise(), SIGMA, cond)
    for i in range(2):
        rows = slice(i, i + 1)
        alone = backbone(noise()[rows], SIGMA[rows], cond[rows])
        assert_close(alone, together[rows], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_model_is_left_as_it_was_even_after_an_error(family: ZImage) -> None:
    cond = family.encode_text(PROMPTS)
    before = family.backbone(noise(), SIGMA, cond)
    damped(family)(noise(), SIGMA, cond)
    with pytest.raises(RuntimeError):
        damped(family)(noise()[:, :3], SIGMA, cond)
    assert torch.equal(family.backbone(noise(), SIGMA, cond), before)


@torch.no_grad()
def test_a_fused_backbone_is_damped_by_way_of_the_plain_one(family: ZImage) -> None:
    cond = family.encode_text(PROMPTS)
    fused = FusedZImage(family.pipeline.transformer, torch.float32, compiled=False)
    found = DampedZImage(fused, factor=0.3, block=BLOCK, above=ABOVE)
    assert torch.equal(found(noise(), SIGMA, cond), damped(family)(noise(), SIGMA, cond))
    assert found.token_grid(noise()) == (8, 8) and found.depth == fused.depth


def test_it_is_another_module_over_the_same_weights(family: ZImage) -> None:
    ours = {id(p) for p in damped(family).parameters()}
    assert ours == {id(p) for p in family.backbone.parameters()}
    assert isinstance(family.backbone, ZImageBackbone)


@pytest.mark.fault(12)
def test_gradients_are_exact_and_refused_under_checkpointing(family: ZImage) -> None:
    cond, x = family.encode_text(PROMPTS), noise().requires_grad_()
    backbone = damped(family)
    (grad,) = torch.autograd.grad(backbone(x, SIGMA, cond).square().sum(), x)
    step = 1e-2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        up, down = (backbone(x + s * step, SIGMA, cond).square().sum() for s in (1, -1))
    assert_close((up - down) / 2, (grad * step).sum(), rtol=0.01, atol=1e-3)
    family.pipeline.transformer.enable_gradient_checkpointing()
    try:
        with pytest.raises(ValueError, match="no gradients under activation checkpointing; sample"):
            backbone(x, SIGMA, cond)
        with torch.no_grad():
            backbone(x, SIGMA, cond)
    finally:
        family.pipeline.transformer.disable_gradient_checkpointing()


def test_what_cannot_be_damped_is_refused(family: ZImage) -> None:
    with pytest.raises(ValueError, match=r"layers must be within 0\.\.5, got \[6\]"):
        DampedZImage(family.backbone, factor=0.3, block=6, above=0.5)
    with pytest.raises(TypeError, match="damping needs a Z-Image, got ToyBackbone"):
        DampedZImage(ToyBackbone(), factor=0.3, block=1, above=0.5)
