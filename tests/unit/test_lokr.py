"""LoKr and LoRA as functions: the factorised forward against the materialised matrix."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from peft.tuners.lokr.layer import factorization as peft_factorization
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from fewstep.nets.lokr import LoKr, LoRA, cheapest_place, factorization

SHAPES = [  # (a, c), (b, d), rank
    ((8, 6), (8, 5), None), ((8, 5), (8, 6), None), ((2, 9), (4, 3), None), ((1, 7), (3, 2), None),
    ((5, 1), (1, 4), None), ((3, 8), (2, 8), 2), ((8, 6), (2, 9), 3), ((2, 6), (8, 9), 1),
]  # fmt: skip


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(module: nn.Module) -> None:
    for i, p in enumerate(module.parameters()):
        nn.init.normal_(p, generator=random(100 + i))


def lokr(outs: tuple[int, int], ins: tuple[int, int], rank: int | None) -> LoKr:
    """In float64, with nothing zero."""
    adapter = LoKr(outs, ins, rank=rank, generator=random(0)).double()
    filled(adapter)
    return adapter


def gradients(y: Tensor, x: Tensor, adapter: nn.Module) -> list[Tensor]:
    target = torch.randn(y.shape, generator=random(7), dtype=y.dtype)
    return list(torch.autograd.grad((y - target).square().sum(), [x, *adapter.parameters()]))


def test_factorization_is_the_one_of_peft() -> None:
    for n in [*range(1, 400), 3840, 10240, 15360]:
        for factor in (-1, *range(1, 40), 64, 500):
            assert factorization(n, factor) == peft_factorization(n, factor), (n, factor)


@pytest.mark.parametrize("leading", [(), (3,), (2, 5)])
@pytest.mark.parametrize(("outs", "ins", "rank"), SHAPES)
def test_lokr_is_the_kronecker_product(
    outs: tuple[int, int], ins: tuple[int, int], rank: int | None, leading: tuple[int, ...]
) -> None:
    """Values and gradients of input and factors, in float64, wherever w1 is multiplied."""
    adapter = lokr(outs, ins, rank)
    w2 = adapter.lokr_w2 if rank is None else adapter.lokr_w2_a @ adapter.lokr_w2_b
    dense = torch.kron(adapter.lokr_w1, w2)
    assert dense.shape == (outs[0] * outs[1], ins[0] * ins[1])
    assert_close(adapter.delta(), dense, rtol=0, atol=0)
    x = torch.randn(*leading, ins[0] * ins[1], generator=random(1), dtype=torch.float64)
    x.requires_grad_()
    expected = F.linear(x, dense)
    slopes = gradients(expected, x, adapter)
    for place in range(2 if rank is None else 3):
        adapter.place = place
        y = adapter(x)
        assert_close(y, expected, rtol=1e-12, atol=1e-12)
        for found, slope in zip(gradients(y, x, adapter), slopes, strict=True):
            assert_close(found, slope, rtol=1e-12, atol=1e-12)


def test_a_strided_input_is_read_as_it_is() -> None:
    adapter = lokr((4, 3), (2, 5), None)
    x = torch.randn(6, 3, 10, generator=random(1), dtype=torch.float64).transpose(0, 1)[:, ::2]
    assert_close(adapter(x), F.linear(x, adapter.delta()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("outs", "ins", "rank"), SHAPES)
def test_the_place_of_w1_is_the_cheapest(
    outs: tuple[int, int], ins: tuple[int, int], rank: int | None
) -> None:
    adapter = lokr(outs, ins, rank)
    x = torch.ones(3, ins[0] * ins[1], dtype=torch.float64)

    def flops(place: int) -> int:
        adapter.place = place
        with FlopCounterMode(display=False) as counter:
            adapter(x)
        return counter.get_total_flops()

    chosen = adapter.place
    assert flops(chosen) == min(flops(place) for place in range(2 if rank is None else 3))


def test_places_by_hand() -> None:
    """A wider layer mixes rows first, a narrower one last, a low rank between its matrices."""
    assert cheapest_place(8, 8, (480, 1280)) == 0
    assert cheapest_place(8, 8, (1280, 480)) == 1
    assert cheapest_place(8, 8, (480, 16, 1280)) == 1
    assert cheapest_place(1, 8, (6, 5, 6)) == 0


def test_the_forward_is_a_factor_cheaper_than_the_layer() -> None:
    """Of the largest layer of Z-Image: 1/8 of the products, and 1/160 for mixing rows."""
    with torch.device("meta"):
        x = torch.empty(16, 3840)
    adapter = LoKr((8, 1280), (8, 480), generator=random(0), device="meta")
    with FlopCounterMode(display=False) as counter:
        adapter(x)
    assert counter.get_total_flops() == 2 * 16 * (8 * 480 * 1280 + 8 * 8 * 480)


def test_lora_is_its_product() -> None:
    adapter = LoRA(6, 5, rank=2, generator=random(0)).double()
    filled(adapter)
    x = torch.randn(3, 4, 5, generator=random(1), dtype=torch.float64).requires_grad_()
    expected = F.linear(x, adapter.lora_B @ adapter.lora_A)
    assert_close(F.linear(x, adapter.delta()), expected, rtol=0, atol=0)
    assert_close(adapter(x), expected, rtol=1e-12, atol=1e-12)
    for found, slope in zip(
        gradients(adapter(x), x, adapter), gradients(expected, x, adapter), strict=True
    ):
        assert_close(found, slope, rtol=1e-12, atol=1e-12)


def test_initial_weights_come_from_the_generator() -> None:
    """Kaiming-uniform: within +- 1 / sqrt(columns), with that bound's variance; the rest is 0."""
    before = torch.random.get_rng_state()
    full = LoKr((64, 2), (64, 3), generator=random(3))
    low = LoKr((2, 200), (3, 100), rank=50, generator=random(3))
    lora = LoRA(9, 100, rank=50, generator=random(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    for drawn in (full.lokr_w1, low.lokr_w2_b, lora.lora_A):
        bound = drawn.shape[1] ** -0.5
        assert 0.99 * bound < drawn.abs().max() <= bound
        assert_close(drawn.var().item(), bound**2 / 3, rtol=0.05, atol=0)
    for zero in (full.lokr_w2, low.lokr_w2_a, lora.lora_B):
        assert not zero.any()
    again, other = (LoKr((64, 2), (64, 3), generator=random(seed)) for seed in (3, 4))
    assert torch.equal(again.lokr_w1, full.lokr_w1)
    assert not torch.equal(other.lokr_w1, full.lokr_w1)


@pytest.mark.parametrize("kind", ["lokr", "lora"])
def test_products_are_in_the_dtype_of_the_input(kind: str) -> None:
    adapter = (
        LoKr((4, 8), (4, 6), generator=random(0))
        if kind == "lokr"
        else LoRA(32, 24, rank=3, generator=random(0))
    )
    filled(adapter)
    x = torch.randn(5, 24, generator=random(1)).bfloat16()
    y = adapter(x)
    assert y.dtype == torch.bfloat16
    exact = F.linear(x.float(), adapter.delta())
    # three roundings of up to 2^-9 in norm: weights, one product, the other
    assert (y - exact).norm() < 3 * 2**-8 * exact.norm()
    y.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in adapter.parameters())
