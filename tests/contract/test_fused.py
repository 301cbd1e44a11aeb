"""The fast Z-Image against the plain one: same weights, same numbers."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from tests.tiny import tiny_zimage
from torch import Tensor

from fewstep.families.base import Cond
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.families.zimage_fused import FusedZImage, product_dtype

PROMPTS = ["a red circle and a blue square on a white background", "two green stars"]
SIGMA = torch.tensor([0.9, 0.3])
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}
"""Relative error, in norm. float32 differs in the order of sums only. bfloat16 rounds by up to
2^-8 = 0.4 % at each of some five roundings in each of eight blocks, in independent directions: the
plain model is 0.5 to 1.4 % from the truth, and so are two ways of rounding from one another."""


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def noise(side: int = 16) -> Tensor:
    return torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(0))


def test_products_are_of_the_fast_kind() -> None:
    """No slower than five times float32; torch's plain loops for bfloat16 are sixty times."""

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(256, 256, dtype=dtype)
        times: list[float] = []
        for _ in range(5):
            began = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - began)
        return min(times)

    chosen = product_dtype(torch.device("cpu"))
    assert seconds(chosen) < 5 * seconds(torch.float32)
    assert product_dtype(torch.device("meta")) == torch.float32


def two_lengths(family: ZImage) -> Cond:
    return family.encode_text([PROMPTS[0], " and ".join(["a red circle"] * 10)])


def fused_of(family: ZImage) -> FusedZImage:
    return FusedZImage(family.pipeline.transformer, torch.float32, compiled=False)


def outputs(backbone: ZImageBackbone, cond: Cond) -> list[Tensor]:
    """Velocity, features of two blocks, and their gradient to x."""
    x = noise().requires_grad_()
    v, feats = backbone(x, SIGMA, cond), backbone.features(x, SIGMA, cond, [4, 1])
    (grad,) = torch.autograd.grad(v.square().mean() + feats[0].square().mean(), x)
    return [v, *feats, grad]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seen", [False, True])
def test_the_fused_backbone_is_the_plain_one(
    family: ZImage, dtype: torch.dtype, seen: bool
) -> None:
    """With text alone and with a picture in context; float32 goes in and comes out."""
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    cond = family.encode_text(PROMPTS, pictures if seen else None)
    rounded = copy.deepcopy(family.pipeline.transformer).to(dtype)
    fused = FusedZImage(rounded, dtype, compiled=False)
    assert fused.fits(noise(), cond)
    truth = outputs(ZImageBackbone(copy.deepcopy(rounded).float()), cond)
    plain = outputs(ZImageBackbone(rounded), cond)
    for exact, a, b in zip(truth, outputs(fused, cond), plain, strict=True):
        assert a.dtype == b.dtype == torch.float32
        assert (a - b).norm() <= TOLERANCE[dtype] * b.norm()
        if dtype == torch.bfloat16:
            # its residual stream is float32, so it loses less than the plain model
            assert (a - exact).norm() <= (b - exact).norm()


def test_tapped_is_velocity_and_features_of_one_pass(family: ZImage) -> None:
    cond, fused, passes = family.encode_text(PROMPTS), fused_of(family), 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    handle = family.pipeline.transformer.all_x_embedder["2-1"].register_forward_hook(count)
    with torch.no_grad():
        v, feats = fused.tapped(noise(), SIGMA, cond, (4, 1))
        assert passes == 1
        handle.remove()
        expected = [fused(noise(), SIGMA, cond), *fused.features(noise(), SIGMA, cond, [4, 1])]
    for a, b in zip([v, *feats], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"layers must be within 0\.\.5"):
        fused.tapped(noise(), SIGMA, cond, (6,))


def test_two_padded_lengths_are_left_to_the_plain_backbone(family: ZImage) -> None:
    fused, cond = fused_of(family), two_lengths(family)
    odd = noise(side=12)  # 36 image tokens: the real model pads them
    assert not fused.fits(noise(), cond) and not fused.fits(odd, family.encode_text(PROMPTS))
    with torch.no_grad():
        v, (tokens,) = fused.tapped(noise(), SIGMA, cond, (2,))
        torch.testing.assert_close(fused(noise(), SIGMA, cond), v, rtol=0, atol=0)
        torch.testing.assert_close(family.backbone(noise(), SIGMA, cond), v)
        plain = family.backbone.features(noise(), SIGMA, cond, [2])[0]
        torch.testing.assert_close(tokens, plain)
