"""Heads: what each logit may and must depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from fewstep.nets.heads import Heads, HeadsConfig

CFG = HeadsConfig(hidden=16, groups=4, embed=8)


def heads(count: int = 2, seed: int = 0, width: int = 12) -> Heads:
    return Heads(CFG, width=width, cond_width=5, count=count, seed=seed)


def inputs(
    b: int = 3, grid: tuple[int, int] = (2, 3), count: int = 2, width: int = 12
) -> tuple[list[Tensor], Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    features = [torch.randn(b, grid[0] * grid[1], width, generator=g) for _ in range(count)]
    return features, torch.rand(b, generator=g), torch.randn(b, 5, generator=g)


def test_trap34_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a = heads(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # the global stream is not read
    torch.manual_seed(99)
    b = heads(seed=3).state_dict()
    c = heads(seed=4).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["heads.0.narrow.weight"], c["heads.0.narrow.weight"])
    assert not torch.equal(a["heads.0.narrow.weight"], a["heads.1.narrow.weight"])


@pytest.mark.parametrize("width", [128, 3840])
def test_first_logits_lie_inside_the_hinge_margin_whatever_the_features_scale(width: int) -> None:
    features, sigma, pooled = inputs(b=2, grid=(4, 4), width=width)
    net = heads(width=width)
    with torch.no_grad():
        logits = net([1e3 * f for f in features], sigma, 50 * pooled, (4, 4))
        assert_close(logits, net(features, sigma, pooled, (4, 4)), rtol=0, atol=1e-3)
    assert logits.abs().max() < 1
    assert logits.std() > 0.01


def test_trap11_mixed_and_non_square_sizes() -> None:
    net = heads()
    for grid in [(2, 3), (3, 2), (1, 5), (4, 4)]:
        features, sigma, pooled = inputs(grid=grid)
        logits = net(features, sigma, pooled, grid)
        assert logits.shape == (3, 2 * grid[0] * grid[1])
    # The same tokens laid out otherwise are another picture.
    features, sigma, pooled = inputs(grid=(2, 3))
    wide, tall = net(features, sigma, pooled, (2, 3)), net(features, sigma, pooled, (3, 2))
    assert not torch.allclose(wide, tall)


def test_patch_logits_lie_where_their_patch_lies() -> None:
    # Without normalisation over the picture, a logit sees two patches far in each direction.
    net = heads(count=1)
    for head in net.each():
        head.norm1, head.norm2 = torch.nn.Identity(), torch.nn.Identity()  # type: ignore[assignment]
    (tokens,), sigma, pooled = inputs(b=1, grid=(6, 9), count=1)
    tokens.requires_grad_()
    logits = net([tokens], sigma, pooled, (6, 9)).view(6, 9)
    (grad,) = torch.autograd.grad(logits[1, 6], tokens)
    seen = grad[0].abs().sum(1).view(6, 9) > 0
    expected = torch.zeros(6, 9, dtype=torch.bool)
    expected[0:4, 4:9] = True
    assert torch.equal(seen, expected)


def test_samples_and_heads_do_not_mix() -> None:
    net = heads()
    features, sigma, pooled = inputs()
    whole = net(features, sigma, pooled, (2, 3))
    row = net([f[1:2] for f in features], sigma[1:2], pooled[1:2], (2, 3))
    assert_close(whole[1:2], row, rtol=0, atol=1e-6)
    other = [features[0], features[1] + 1 + features[1].flip(2)]
    changed = net.by_head(net(other, sigma, pooled, (2, 3)))
    split = net.by_head(whole)
    assert split.shape == (3, 2, 6)
    assert_close(split.flatten(1), whole, rtol=0, atol=0)
    assert torch.equal(changed[:, 0], split[:, 0])
    assert not torch.allclose(changed[:, 1], split[:, 1])


def test_noise_level_and_text_are_seen() -> None:
    net = heads()
    features, sigma, pooled = inputs()
    logits = net(features, sigma, pooled, (2, 3))
    assert (logits - net(features, sigma, pooled.roll(1, 0), (2, 3))).abs().max() > 1e-2
    ends = [net(features, torch.full((3,), s), pooled, (2, 3)) for s in (0.0, 1.0)]
    assert (ends[0] - ends[1]).abs().max() > 1e-2


def test_refusals() -> None:
    features, sigma, pooled = inputs()
    with pytest.raises(ValueError, match="2 x 4 patches has 8 tokens, got 6"):
        heads()(features, sigma, pooled, (2, 4))
    with pytest.raises(ValueError, match="3 heads, but features of 2 layers"):
        heads(count=3)(features, sigma, pooled, (2, 3))
    with pytest.raises(ValueError, match=r"groups must divide hidden, but 5"):
        HeadsConfig(hidden=16, groups=5)
    with pytest.raises(ValueError, match=r"hidden must be >= 1, got 0"):
        HeadsConfig(hidden=0)
