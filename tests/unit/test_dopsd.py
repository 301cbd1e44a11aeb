"""D-OPSD: its states, its gradient, its parts, its memory, its teacher and its tether."""

from __future__ import annotations

from collections.abc import Sequence
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
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import run_step

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


def test_the_tether_pulls_towards_the_model_before_and_from_other_prompts_alone() -> None:
    free = dopsd(replace(CFG, teacher=TeacherConfig(decay=0.0)))
    same = replace(BATCH, context=BATCH.cond)
    tied = dopsd(replace(free.cfg, tether_weight=2.0))
    found, value, logs = by_parts(tied, same)
    assert value < 1e-11 and logs["tether"] < 1e-11  # still the model before training
    moved = dopsd(replace(tied.cfg, tether="mse"), student=2)
    found, value, logs = by_parts(moved, same)
    assert value == pytest.approx(logs["tether"].item()) and value > 1e-2
    assert logs["distil"] < 1e-11
    own = Rng(0, 0, "student prior", PRIOR.ids)
    student = lambda x, sigma: moved.student(x, sigma, PRIOR.cond)  # noqa: E731
    states = list(trajectory(student, own.randn_like(PRIOR.x0), (*CFG.student_sigmas, 0.0)))[:-1]
    right = [
        (student(x.detach(), s) - moved.base(x.detach(), s, PRIOR.cond)).square().mean()
        for x, s in states
    ]
    assert value == pytest.approx(2 * torch.stack(right).mean().item(), rel=1e-5)
    # the pictures and their prompts have no part in it
    others = replace(toy_batch(seed=8), ids=BATCH.ids)
    again = by_parts(moved, replace(same, x0=others.x0, cond=others.cond, context=others.cond))[0]
    for name, g in found.items():
        assert_close(again[name], g, rtol=1e-4, atol=1e-5 * g.abs().max().item())
    with pytest.raises(ValueError, match=r"tether_weight = 2.0 needs samples of other prompts"):
        by_parts(tied, replace(BATCH, prior=None))


def test_the_huber_tether_is_bounded() -> None:
    method = dopsd(replace(CFG, tether_weight=3.0))
    v = torch.tensor([0.03, -2.0], requires_grad=True)
    method.held(v, torch.zeros(2)).backward()
    assert v.grad is not None
    assert_close(v.grad, 3 * torch.tensor([0.03, -0.08]) / 2)


def steps(method: DOPSD, batches: Sequence[Batch], n: int, lr: float = 1e-3) -> None:
    optim = Optim(OptimConfig(lr=lr, clip=None), method.student, total=n)
    for step in range(n):
        assert run_step(method, batches, {"student": optim}, {}, seed=0, step=step) is None


def test_the_average_moves_on_optimizer_steps_alone_and_the_student_is_exported() -> None:
    method = dopsd(replace(CFG, teacher=TeacherConfig(decay=0.5, follow=0.0)))
    bias = method.student.get_parameter("leave.bias")
    start, shadow = bias.detach().clone(), method.teacher.module.get_parameter("leave.bias")
    by_parts(method)
    assert torch.equal(shadow, start)
    steps(method, [BATCH], 1)
    assert not torch.equal(bias, start)
    assert_close(shadow, (start + bias.detach()) / 2)
    bad = replace(BATCH, x0=BATCH.x0 * torch.nan, context=Cond(tuple(
        t * torch.nan for t in BATCH.context.tokens  # pyright: ignore
    )))  # fmt: skip
    optim = Optim(OptimConfig(), method.student, total=1)
    before = shadow.clone()
    assert run_step(method, [bad], {"student": optim}, {}, seed=0, step=1) is not None
    assert torch.equal(shadow, before)
    assert method.exported() is method.student
    assert set(method.modules) == {"student", "ema"}
    assert set(dopsd(replace(CFG, teacher=TeacherConfig(decay=None))).modules) == {"student"}


def test_training_brings_the_student_to_what_its_teacher_is_told() -> None:
    """The frozen teacher's pictures are 0.7 brighter in their context; the student learns it."""
    cfg = DOPSDConfig(student_sigmas=(1.0, 0.5), teacher=TeacherConfig(decay=None))
    base = Shifted(0.0, 0.0).requires_grad_(False)
    method = DOPSD(cfg, student=Shifted(0.0, 0.0), base=base, sampler="euler")
    cond = known(4)
    batch = Batch(
        ids=tuple("abcd"), x0=torch.zeros(4, 1, 2, 2), cond=cond,
        context=Cond(tuple(t + 0.7 for t in cond.tokens)),
    )  # fmt: skip
    steps(method, [batch], 150, lr=0.02)
    student = method.student
    assert isinstance(student, Shifted)
    assert student.mean.item() == pytest.approx(0.7, abs=0.05)


def test_micro_batches_make_the_gradient_of_the_whole() -> None:
    halves = [
        Batch(
            ids=BATCH.ids[i : i + 2], x0=BATCH.x0[i : i + 2], cond=BATCH.cond[i : i + 2],
            context=BATCH.context[i : i + 2],  # pyright: ignore
        )
        for i in (0, 2)
    ]  # fmt: skip
    found = []
    for batches in ([BATCH], halves):
        method = dopsd()
        sgd = Optim(OptimConfig(lr=1.0, betas=(0.0, 0.0), clip=None), method.student, total=1)
        norms: dict[str, object] = {}
        run_step(method, batches, {"student": sgd}, norms, seed=0, step=0)  # type: ignore
        found.append(norms["student"].values())  # type: ignore
    assert found[0]["grad_norm"] == pytest.approx(found[1]["grad_norm"], rel=1e-5)
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["distil_by_state"] == pytest.approx(found[1]["distil_by_state"], rel=1e-4)


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
