"""The EMA against its closed form (trap 26), in any dtype."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fewstep.nets.ema import Ema, following


def filled(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    layer = nn.Linear(2, 2, dtype=dtype)
    for p in layer.parameters():
        nn.init.constant_(p, value)
    return layer


def weight(ema: Ema) -> Tensor:
    return ema.average.get_parameter("weight")


def test_trap26_closed_form_from_the_current_weights() -> None:
    module = filled(3.0)
    ema = Ema(module, decay=0.9)
    assert_close(weight(ema), module.weight)  # starts from the weights, not from zero
    for p in module.parameters():
        nn.init.constant_(p, 1.0)
    for n in range(1, 6):
        ema.update(module)
        assert_close(weight(ema), torch.full((2, 2), 1 + 2 * 0.9**n))
    assert int(ema.updates) == 5


def test_warmup_follows_its_formula() -> None:
    module = filled(0.0)
    ema = Ema(module, decay=0.3, warmup=True)
    nn.init.constant_(module.weight, 1.0)
    left = 1.0
    for t in range(6):
        ema.update(module)
        left *= min(0.3, (1 + t) / (10 + t))
        assert_close(weight(ema), torch.full((2, 2), 1 - left))


@pytest.mark.fault(11)
def test_moves_in_bfloat16() -> None:
    module = filled(1.0, torch.bfloat16)
    ema = Ema(module, decay=0.999)
    assert weight(ema).dtype == torch.float32
    nn.init.constant_(module.weight, 1.0078125)  # the next bfloat16 number
    ema.update(module)
    expected = torch.full((2, 2), 1 + 0.001 * 0.0078125)
    assert_close(weight(ema), expected, rtol=0, atol=1e-7)
    assert (weight(ema) > 1).all()


def test_state_dict_continues_the_average() -> None:
    module = filled(0.0)
    ema = Ema(module, decay=0.99, warmup=True)
    nn.init.constant_(module.weight, 1.0)
    for _ in range(3):
        ema.update(module)
    resumed = Ema(module, decay=0.99, warmup=True)
    resumed.load_state_dict(copy.deepcopy(ema.state_dict()))
    for one in (ema, resumed):
        one.update(module)
    assert_close(weight(resumed), weight(ema), rtol=0, atol=0)
    assert int(resumed.updates) == 4


def test_frozen_parameters_are_not_copied_and_buffers_follow() -> None:
    norm = nn.BatchNorm1d(2)
    module = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), norm)
    ema = Ema(module, decay=0.5)
    assert ema.average.get_parameter("0.weight") is module.get_parameter("0.weight")
    assert ema.average.get_parameter("1.weight") is not norm.weight
    module(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    assert norm.running_mean is not None and norm.running_mean.abs().sum() > 0
    ema.update(module)
    assert_close(ema.average.get_buffer("1.running_mean"), norm.running_mean)
    assert int(ema.average.get_buffer("1.num_batches_tracked")) == 1


def test_shadow_is_never_trained_and_leaves_the_module_alone() -> None:
    module = filled(1.0)
    ema = Ema(module, decay=0.5)
    assert module.training and not ema.average.training  # nor does it drop or count anything
    assert not any(p.requires_grad for p in ema.parameters())
    assert all(p.requires_grad for p in module.parameters())
    with torch.no_grad():
        weight(ema).add_(5)
    assert_close(module.weight, torch.ones(2, 2))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1"):
        Ema(filled(0), decay=1.0)
    with pytest.raises(ValueError, match="all are frozen"):
        Ema(filled(0).requires_grad_(False), decay=0.9)
    with pytest.raises(ValueError, match="another structure: parameter"):
        Ema(filled(0), decay=0.9).update(nn.Linear(2, 2, bias=False))
    module = filled(0)
    bias = module.get_parameter("bias").requires_grad_(False)
    ema = Ema(module, decay=0.9)
    bias.requires_grad_(True)
    with pytest.raises(ValueError, match="'bias' was frozen when its EMA was built"):
        ema.update(module)


@pytest.mark.parametrize("pace", [9.0, 1.0, 1 / 9])
def test_warmup_comes_a_fixed_share_of_a_straight_way(pace: float) -> None:
    """pace / (1 + pace), after any number of updates."""
    module = filled(0.0)
    ema = Ema(module, decay=0.9999, warmup=True, pace=pace)
    for n in range(1, 41):
        nn.init.constant_(module.weight, float(n))
        ema.update(module)
        assert_close(weight(ema), torch.full((2, 2), n * pace / (1 + pace)), rtol=1e-5, atol=1e-6)


def test_without_warmup_a_slow_average_has_hardly_come_along() -> None:
    n, d = 50, 0.99
    module = filled(0.0)
    ema = Ema(module, decay=d)
    for i in range(1, n + 1):
        nn.init.constant_(module.weight, float(i))
        ema.update(module)
    share = 1 - d * (1 - d**n) / (n * (1 - d))
    assert_close(weight(ema), torch.full((2, 2), n * share), rtol=1e-5, atol=1e-6)
    # the figures that TeacherConfig states
    shares = [1 - 0.9999 * (1 - 0.9999**n) / (n * 1e-4) for n in (2000, 300)]
    assert shares == pytest.approx([0.0937, 0.0149], abs=1e-4)


def test_after_one_jump_the_warmup_follows_the_gamma_function() -> None:
    module, pace = filled(0.0), 1 / 9
    ema = following(module, decay=0.9999, share=0.1)
    nn.init.constant_(module.weight, 1.0)
    for n in range(1, 31):
        ema.update(module)
        log = math.lgamma(n + 1) + math.lgamma(1 + pace) - math.lgamma(n + 1 + pace)
        assert_close(weight(ema), torch.full((2, 2), 1 - math.exp(log)), rtol=1e-5, atol=1e-6)


def test_following_nothing_is_the_decay_alone() -> None:
    assert following(filled(0), decay=0.7, share=0.0).next_decay() == 0.7
    assert following(filled(0), decay=0.999, share=0.1).next_decay() == pytest.approx(0.9)
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\), got 1"):
        following(filled(0), decay=0.7, share=1.0)


@pytest.mark.fault(11)
def test_an_average_that_cannot_move_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves steps of 1e-08, which round away in float32"):
        Ema(filled(1), decay=1 - 1e-8)
    module = filled(1.0)
    ema = Ema(module, decay=1 - 1.2e-7)  # the slowest that still follows a weight that doubles
    nn.init.constant_(module.weight, 2.0)
    ema.update(module)
    assert (weight(ema) > 1).all()
    ema = Ema(module, decay=0.999)
    ema.to(torch.bfloat16)
    with pytest.raises(
        ValueError, match="the EMA of 'weight' is bfloat16, in which it would stand"
    ):
        ema.update(module)
    with pytest.raises(ValueError, match="pace must be > 0, got 0"):
        Ema(module, decay=0.9, warmup=True, pace=0.0)
