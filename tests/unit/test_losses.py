"""Losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from fewstep.methods import losses


def test_hinge_closed_form() -> None:
    real = torch.tensor([[2.0, 0.5], [-1.0, 1.0]])
    fake = torch.tensor([[-2.0, 0.0], [3.0, -1.0]])
    assert_close(
        losses.hinge(real, fake), torch.tensor((0 + 0.5 + 2 + 0) / 4 + (0 + 1 + 4 + 0) / 4)
    )
    assert_close(losses.hinge_student(fake).mean(), -fake.mean())


def test_softplus_closed_form() -> None:
    zero = torch.zeros(3, 5)
    assert_close(losses.softplus(zero, zero), torch.tensor(2 * math.log(2)))
    x = torch.tensor([[-3.0, 0.2, 4.0]])
    p = torch.sigmoid(x)
    assert_close(losses.softplus_real(x), -p.log())
    assert_close(losses.softplus_fake(x), -(1 - p).log())
    assert_close(losses.softplus_student(x), -p.log())


@pytest.mark.parametrize("name", ["hinge", "softplus"])
def test_adversarial_names_its_own_terms(name: losses.AdversarialName) -> None:
    game = losses.adversarial(name)
    x = torch.tensor([[-3.0, 0.2, 4.0]])
    whole = {"hinge": losses.hinge, "softplus": losses.softplus}[name]
    assert_close(game.real(x).mean() + game.fake(-2 * x).mean(), whole(x, -2 * x))
    # What makes the student better makes the heads worse.
    up = torch.autograd.grad(game.student(x.requires_grad_()).sum(), x)[0]
    assert (up < 0).all()


@pytest.mark.parametrize("loss", [losses.hinge, losses.softplus])
def test_gradcheck(loss) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(loss, (real.requires_grad_(), fake.requires_grad_()))


@pytest.mark.parametrize("name", ["hinge", "softplus"])
def test_trap9_one_saturated_logit_leaves_the_others_their_gradient(
    name: losses.AdversarialName,
) -> None:
    game = losses.adversarial(name)
    logits = torch.tensor([[50.0, -0.3, 0.1, 0.0]], requires_grad=True)  # the first head is sure
    game.real(logits).mean().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].abs() < 1e-6
    assert (logits.grad[0, 1:] < -0.05).all()  # a margin on the sum or mean would give 0 here


def test_trap10_r1_exact_is_analytic_on_linear_heads_and_zero_on_constant_ones() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    w = torch.tensor([[1.0, 2.0, 2.0]], dtype=torch.float64)
    assert_close(losses.r1_exact(x @ w.T, [x]), torch.tensor(9.0, dtype=torch.float64))
    assert losses.r1_exact(0 * x @ w.T + 7, [x]) == 0


def test_r1_exact_does_not_cancel_between_heads() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4, 3, generator=generator).requires_grad_()
    b = a.detach().clone().requires_grad_()
    w = torch.tensor([[3.0, 0.0, 4.0]])
    opposite = torch.cat([a @ w.T, -(b @ w.T)], dim=1)  # one head up, one down
    assert_close(losses.r1_exact(opposite, [a, b]), torch.tensor(25.0))


def test_r1_exact_can_be_differentiated_again() -> None:
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    w = torch.tensor([[0.5, -1.5]], dtype=torch.float64, requires_grad=True)
    losses.r1_exact(x @ w.T, [x]).backward(inputs=[w])
    assert_close(w.grad, 2 * w.detach())

    def penalty(weight: torch.Tensor) -> torch.Tensor:
        return losses.r1_exact((x @ weight.T).tanh(), [x])

    assert torch.autograd.gradcheck(penalty, (w.detach().requires_grad_(),))


def test_r1_approx_tends_to_the_exact_value_on_a_linear_head() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=generator)
    n = torch.randn(20_000, 3, generator=generator)
    w = torch.tensor([[1.0, 2.0, 2.0]])
    approx = losses.r1_approx(x @ w.T, (x + 0.1 * n) @ w.T, 0.1)
    assert_close(approx, torch.tensor(9.0), rtol=0.05, atol=0)
    with pytest.raises(ValueError, match="noise_std must be > 0"):
        losses.r1_approx(x, x, 0.0)
