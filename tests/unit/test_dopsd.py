"""D-OPSD: its states, its gradient, its parts and its memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.gaussians import Affine, known
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor, nn
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.flow.sample import at, trajectory
from fewstep.flow.sigmas import grid
from fewstep.methods.base import Logs
from fewstep.methods.distil import TeacherConfig, some_of
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.rng import Rng

CFG = DOPSDConfig()
PRIOR = toy_batch(3, seed=5)
BATCH = replace(toy_batch(), context=toy_batch(seed=3).cond, prior=PRIOR)


def dopsd(cfg: DOPSDConfig = CFG, *, student: int = 1, sampler: str = "euler") -> DOPSD:
    return DOPSD(
        cfg, student=ToyBackbone(seed=student), base=ToyBackbone(seed=1).requires_grad_(False),
        sampler=sampler,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def rng(batch: Batch = BATCH, step: int = 0) -> Rng:
    return Rng(0, step, "student", batch.ids)


def grads(module: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def by_parts(method: DOPSD, batch: Batch = BATCH) -> tuple[dict[str, Tensor], float, Logs]:
    """Gradients as the loop makes them."""
    value, sums = 0.0, Logs()
    for loss, logs in method.parts(batch, rng(batch)):
        loss.backward()
        value += loss.item()
        sums |= {name: sums.get(name, torch.zeros(())) + part for name, part in logs.items()}
    return grads(method.student), value, sums


@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_nothing_is_to_be_learnt_where_the_teacher_sees_and_is_the_same(sampler: str) -> None:
    same = replace(BATCH, context=BATCH.cond)
    found, value, _ = by_parts(dopsd(sampler=sampler), same)
    told, more, _ = by_parts(dopsd(sampler=sampler))
    # rounding differs with and without a graph
    assert value < 1e-11 and more > 1e-3
    assert all(found[name].norm() < 1e-5 * g.norm() for name, g in told.items())
    other = dopsd(replace(CFG, teacher=TeacherConfig(decay=None)), student=2)
    assert by_parts(other, same)[1] > 1e-3  # the student has moved, the frozen teacher has not


def seen(method: DOPSD, batch: Batch = BATCH) -> list[Tensor]:
    """The states at which the teacher was asked."""
    found: list[Tensor] = []
    handle = method.teacher.module.register_forward_pre_hook(lambda _m, args: found.append(args[0]))
    by_parts(method, batch)
    handle.remove()
    return found


def test_states_are_those_of_the_sampler_under_the_present_weights() -> None:
    method = dopsd()
    for _ in range(2):
        noise = rng().randn_like(BATCH.x0)
        with torch.no_grad():
            own = lambda x, sigma: method.student(x, sigma, BATCH.cond)  # noqa: E731
            right = list(trajectory(own, noise, (*CFG.student_sigmas, 0.0)))[:-1]
        found = seen(method)
        assert len(found) == 4 and not any(x.requires_grad for x in found)
        for x, (expected, _) in zip(found, right, strict=True):
            assert_close(x, expected, rtol=0, atol=1e-6)
        before = found
        with torch.no_grad():
            method.student.get_parameter("leave.bias").add_(0.5)
    after = seen(method)
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_states_of_renoising_draw_their_noise_from_the_samples_streams() -> None:
    method, draws = dopsd(sampler="renoise"), rng()
    first, second = draws.randn_like(BATCH.x0), draws.randn_like(BATCH.x0)
    found = seen(method)
    with torch.no_grad():
        x0_hat = first - method.student(first, at(1.0, first), BATCH.cond)
    assert_close(found[1], 0.1 * x0_hat + 0.9 * second, rtol=0, atol=1e-6)


def test_calls_are_one_of_the_student_and_one_of_the_teacher_for_each_state() -> None:
    method = dopsd()
    by_parts(method)
    teacher = method.teacher.module
    assert isinstance(teacher, ToyBackbone)
    assert (method.student.forwards, teacher.forwards) == (4, 4)  # pyright: ignore


class Shifted(Affine):
    """x0_hat = mean + std x + the first number of the condition."""

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        told = torch.stack([t[0, 0] for t in cond.tokens]).reshape(-1, 1, 1, 1)
        return (x - self.mean - told - self.std * x) / sigma.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("form", ["v", "x0", "mu"])
def test_the_gradient_is_the_closed_form_with_the_target_held(form: str) -> None:
    """x0_hat of student and teacher differ by a constant -d, so v_s - v_t = d / sigma."""
    sigmas, ids = (1.0, 0.6, 0.3), ("a", "b")
    cfg = DOPSDConfig(
        student_sigmas=sigmas, form=form, teacher=TeacherConfig(decay=0.0)  # pyright: ignore
    )  # fmt: skip
    base = Shifted(0.5, 0.0).requires_grad_(False)
    method = DOPSD(cfg, student=Shifted(0.5, 0.0), base=base, sampler="euler")
    d, cond = 0.7, known(2)
    told = Cond(tuple(t + d for t in cond.tokens))
    batch = Batch(ids=ids, x0=torch.zeros(2, 1, 2, 2), cond=cond, context=told)
    found, value, _ = by_parts(method, batch)
    weight = {
        "v": [1, 1, 1], "x0": [1, 0.36, 0.09], "mu": [0.16, 0.09, 0.09],
    }[form]  # fmt: skip
    square = [w / s**2 for w, s in zip(weight, sigmas, strict=True)]
    assert value == pytest.approx(d**2 * sum(square) / 3, rel=1e-5)
    # dv/dmean = -1 / sigma, so d(v_s - v_t)^2 = -2 d / sigma^2 where the teacher's own is held
    assert found["mean"].item() == pytest.approx(-2 * d * sum(square) / 3, rel=1e-5)


def test_the_goal_is_that_of_a_guided_teacher() -> None:
    """v_teacher = v_0 + w (v - v_0): x0_hat is 0.7 brighter in context and 0.1 without a prompt."""
    cfg = DOPSDConfig(student_sigmas=(1.0,), teacher=TeacherConfig(decay=None, guidance=3.0))
    cond = Cond(tuple(torch.zeros_like(t) for t in known(2).tokens))
    method = DOPSD(
        cfg, student=Shifted(0.0, 0.0), base=Shifted(0.0, 0.0).requires_grad_(False),
        sampler="euler", uncond=Cond((cond.tokens[0] + 0.1,)),
    )  # fmt: skip
    told = Cond(tuple(t + 0.7 for t in cond.tokens))
    batch = Batch(ids=("a", "b"), x0=torch.zeros(2, 1, 2, 2), cond=cond, context=told)
    assert by_parts(method, batch)[1] == pytest.approx((0.1 + 3 * 0.6) ** 2, rel=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_gradients_of_parts_are_those_of_the_sum(sampler: str) -> None:
    method = dopsd(replace(CFG, tether_weight=0.5, form="x0"), student=2, sampler=sampler)
    one_by_one, value, logs = by_parts(method)
    whole = torch.stack([loss for loss, _ in method.parts(BATCH, rng())]).sum()
    whole.backward()
    at_once = grads(method.student)
    assert value == pytest.approx(whole.item(), rel=1e-6)
    assert_close(logs["distil"] + logs["tether"], whole.detach())
    assert one_by_one.keys() == at_once.keys()
    for name, g in at_once.items():
        assert (one_by_one[name] - g).norm() <= 1e-6 * g.norm(), name


class Held:
    """A tensor that autograd keeps for the backward pass."""

    def __init__(self, kept: Tensor, live: dict[int, int]) -> None:
        self.kept, self.live = kept, live
        live[id(self)] = kept.numel()

    def __del__(self) -> None:
        self.live.pop(id(self), None)


def most_held(steps: int, *, at_once: bool) -> int:
    """The most numbers that autograd has held at one time for the gradients of a roll-out."""
    cfg = DOPSDConfig(student_sigmas=grid(steps)[:-1])
    method, live, most = dopsd(cfg), dict[int, int](), 0

    def keep(x: Tensor) -> Held:
        nonlocal most
        held = Held(x, live)
        most = max(most, sum(live.values()))
        return held

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held.kept):
        if at_once:
            torch.stack([loss for loss, _ in method.parts(BATCH, rng())]).sum().backward()
        else:
            by_parts(method)
    assert not live
    return most


def test_memory_does_not_grow_with_the_states() -> None:
    steps = (2, 4, 8, 16)
    parts = [most_held(k, at_once=False) for k in steps]
    assert parts[0] > 1000 and len(set(parts)) == 1
    whole = [most_held(k, at_once=True) for k in steps]
    assert whole[3] > 7.9 * whole[0]


def test_a_subset_has_the_gradient_of_all_states_on_average() -> None:
    """One of four equally likely states counts four times as much as in the mean of all."""
    one, everything, met = dopsd(replace(CFG, visits=1)), dopsd(), set[int]()
    for step in range(12):
        [k] = some_of(4, 1, rng(step=step))
        [(loss, _)] = one.parts(BATCH, rng(step=step))
        loss.backward()
        found = grads(one.student)
        list(everything.parts(BATCH, rng(step=step)))[k][0].backward()
        for name, g in grads(everything.student).items():
            assert_close(found[name], 4 * g, rtol=1e-4, atol=1e-7)
        met.add(k)
    assert met == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_sigmas": (0.5, 0.9)}, "sigmas must fall strictly"),
        ({"visits": 0}, r"visits must lie in 1 \.\. 4"),
        ({"tether_weight": -1.0}, "tether_weight must be >= 0"),
        ({"tether_delta": 0.0}, "tether_delta must be > 0"),
    ],
)
def test_config_errors(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CFG, **change)  # pyright: ignore[reportArgumentType]
