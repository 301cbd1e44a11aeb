"""What a first update is said to have moved, beside a count of all weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fewstep.train.first_move import SAMPLED
from fewstep.train.firsts import Firsts
from fewstep.train.optim import Optim, OptimConfig


def layer(dtype: torch.dtype = torch.float32, size: float = 1.0, n: int = 300) -> nn.Linear:
    made = nn.Linear(n, 5, bias=False)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.weight.copy_(size * (1 + torch.rand(made.weight.shape, generator=draws)))
    return made.to(dtype)


def moved(module: nn.Module, zero: int = 0, **changes: Any) -> tuple[str | None, float]:
    """What is said of an update, and the share of weights that differ after it. Of each row so many
    gradients are zero."""
    optim = Optim(replace(OptimConfig(clip=None), **changes), module, total=1)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for p in module.parameters():
        p.grad = torch.ones_like(p)
        p.grad[:, :zero] = 0
    optim.step(optim.norm())
    share = [(p != before[name]).float().mean().item() for name, p in module.named_parameters()]
    said = optim.first_move("student")
    assert optim.first_move("student") is None  # once
    optim.step(optim.norm())
    assert optim.first_move("student") is None  # and of the first update alone
    return said, sum(share) / len(share)


def test_all_move_at_a_rate_that_the_weights_can_tell() -> None:
    said, share = moved(layer(), lr=1e-4)
    assert share == 1
    assert said == ("the first update of student moved 100.0% of the weights with a gradient "
                    "(100.0% of 0.0M)")  # fmt: skip


def test_weights_without_a_gradient_do_not_count() -> None:
    said, share = moved(layer(), zero=75, lr=1e-4)
    assert share == pytest.approx(0.75)
    assert said is not None and "moved 100.0% of the weights with a gradient (75.0%" in said


def test_a_rate_below_what_weights_can_tell_is_a_warning_with_numbers() -> None:
    """Neighbours of a float32 between 1 and 2 are 1.2e-7 apart."""
    said, share = moved(layer(), lr=2e-8)
    assert share == 0
    assert said is not None and said.startswith("warning: the first update of student moved 0.0%")
    assert "at its rate of 2e-08 the others are rounded" in said and "optim.student.lr" in said


def test_the_rate_that_is_named_is_that_of_the_warm_up() -> None:
    said, _ = moved(layer(), lr=1e-5, warmup=1000)
    assert said is not None and "at its rate of 1e-08" in said


def test_halves_of_a_weight_move_together_and_random_rounding_is_no_fault() -> None:
    exact, share = moved(layer(torch.bfloat16), lr=1e-4, weights="exact")
    assert share < 0.1  # upper halves alone
    assert exact is not None and "moved 100.0%" in exact
    rounded, share = moved(layer(torch.bfloat16), lr=1e-4, weights="stochastic")
    assert 0 < share < 0.1
    assert rounded is not None and not rounded.startswith("warning")


def test_no_gradient_at_all_is_a_warning() -> None:
    said, _ = moved(layer(), zero=300, lr=1e-4)
    assert (
        said == "warning: in its first update no weight of student had a gradient other than zero"
    )


def test_many_weights_are_judged_by_a_sample() -> None:
    large = layer(n=10 * SAMPLED)
    optim = Optim(OptimConfig(), large, total=1)
    large.weight.grad = torch.ones_like(large.weight)
    optim.step(optim.norm())
    assert optim.first is not None
    assert SAMPLED <= len(optim.first.before["weight"]) < 2 * SAMPLED
    found = optim.first.after()
    assert found.weights == found.reached == found.moved == large.weight.numel()


def test_the_check_waits_for_every_optimizer_and_comes_once() -> None:
    optims = {name: Optim(OptimConfig(), layer(), total=9) for name in ("heads", "student")}
    calls, said = list[int](), list[str]()

    def update(name: str) -> None:
        for p in optims[name].parameters.values():
            p.grad = torch.ones_like(p)
        optims[name].step(optims[name].norm())

    update("student")  # before a run is resumed
    optims["student"].first = None
    firsts = Firsts(optims, lambda: calls.append(1), said.append)
    for name, expected in (("heads", 0), ("heads", 0), ("student", 1), ("student", 1)):
        update(name)
        firsts.look()
        assert len(calls) == expected
    assert len(said) == 1 and "heads" in said[0]
