"""LADD: who gets which gradient, in which order, from which draws; and that it works at all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor, nn
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.methods.base import Logs, Method
from fewstep.methods.health import health
from fewstep.methods.ladd import LADD, LADDConfig
from fewstep.nets.heads import Heads, HeadsConfig
from fewstep.rng import Rng

HEADS = HeadsConfig(hidden=16, groups=4, embed=8)
BASE = LADDConfig(
    layers=(0, 2), heads=HEADS, student_every=1, heads_first=0, warmup_steps=0, ema_decay=0.5
)


def ladd(cfg: LADDConfig = BASE, *, seed: int = 0, **sizes: int) -> LADD:
    teacher = ToyBackbone(seed=seed, **sizes).requires_grad_(False)
    student = ToyBackbone(seed=seed + 1, **sizes)
    heads = Heads(
        cfg.heads, width=teacher.width, cond_width=teacher.cond_width, count=len(cfg.layers), seed=0
    )
    return LADD(cfg, student=student, teacher=teacher, heads=heads)


def grads(module: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def run_step(
    method: LADD,
    batches: Sequence[Batch],
    *,
    step: int = 0,
    seed: int = 0,
    lrs: dict[str, float] | None = None,
) -> tuple[dict[str, list[Tensor]], dict[str, Logs]]:
    """What the loop does with a step, with plain gradient descent: gradients and last logs."""
    lrs = {"heads": 0.0, "student": 0.0} if lrs is None else lrs
    found: dict[str, list[Tensor]] = {}
    logs: dict[str, Logs] = {}
    for phase in method.phases(step):
        weights = [p for p in phase.module.parameters() if p.requires_grad]
        phase.module.zero_grad()
        for batch in batches:
            loss, logs[phase.name] = phase.loss(batch, Rng(seed, step, phase.name, batch.ids))
            (loss / len(batches)).backward(inputs=weights)
        found[phase.name] = grads(phase.module)
        with torch.no_grad():
            for p in weights:
                assert p.grad is not None
                p.sub_(lrs[phase.name] * p.grad)
        phase.after()
    return found, logs


def test_is_a_method() -> None:
    method: Method = ladd()
    assert set(method.modules) == {"student", "heads", "ema"}
    assert method.exported() is method.modules["ema"].get_submodule("module")


def test_trap6_student_phase_reaches_the_student_through_the_frozen_teacher_only() -> None:
    method = ladd()
    phases = list(method.phases(0))
    batch = toy_batch()
    phases[0].loss(batch, Rng(0, 0, "heads", batch.ids))
    loss, _ = phases[1].loss(batch, Rng(0, 0, "student", batch.ids))
    loss.backward(inputs=list(method.student.parameters()))
    assert all(g.abs().sum() > 0 for g in grads(method.student))
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is None for p in method.heads.parameters())


def test_trap7_heads_phase_cannot_reach_the_student() -> None:
    method = ladd()
    batch = toy_batch()
    loss, _ = next(method.phases(0)).loss(batch, Rng(0, 0, "heads", batch.ids))
    loss.backward()  # with respect to everything in its graph
    assert all(p.grad is None for p in method.student.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())
    assert any(g.abs().sum() > 0 for g in grads(method.heads))


def test_trap8_student_is_judged_by_the_heads_after_their_move() -> None:
    batch = toy_batch()
    method = ladd()
    lrs = {"heads": 0.5, "student": 0.0}
    moved, _ = run_step(method, [batch], lrs=lrs)  # leaves the heads where step 0 has moved them
    after = ladd()
    after.heads.load_state_dict(method.heads.state_dict())
    expected, _ = run_step(after, [batch])  # the same fakes, judged by these heads from the start
    stale, _ = run_step(ladd(), [batch])
    for got, want, old in zip(moved["student"], expected["student"], stale["student"], strict=True):
        assert_close(got, want, rtol=0, atol=0)
        assert not torch.allclose(got, old, rtol=1e-2)


def test_schedule_is_said_in_phases() -> None:
    method = ladd(replace(BASE, student_every=3))
    names = [[p.name for p in method.phases(step)] for step in range(6)]
    both = ["heads", "student"]
    assert names == [["heads"], ["heads"], both] * 2


def test_the_heads_have_the_first_steps_for_themselves() -> None:
    method = ladd(replace(BASE, student_every=2, heads_first=4))
    assert [len(list(method.phases(step))) for step in range(8)] == [1, 1, 1, 1, 1, 2, 1, 2]


def test_heads_only_steps_build_no_graph_of_the_student() -> None:
    method = ladd(replace(BASE, student_every=2))
    calls: list[bool] = []
    method.student.register_forward_hook(lambda _m, _i, v: calls.append(v.requires_grad))
    run_step(method, [toy_batch()], step=0)
    run_step(method, [toy_batch()], step=1)
    assert calls == [False, True]


def test_nothing_of_a_step_stays_behind() -> None:
    method = ladd()
    before = set(vars(method))
    (_, student), batch = list(method.phases(0)), toy_batch()
    with pytest.raises(KeyError):
        student.loss(batch, Rng(0, 0, "student", batch.ids))  # no heads phase, no fakes
    run_step(method, [batch])
    assert set(vars(method)) == before
    heads, student = list(method.phases(0))
    heads.loss(batch, Rng(0, 0, "heads", batch.ids))
    student.loss(batch, Rng(0, 0, "student", batch.ids))
    with pytest.raises(KeyError):  # its graph is let go of micro-batch by micro-batch
        student.loss(batch, Rng(0, 0, "student", batch.ids))
    _, later = list(method.phases(1))
    with pytest.raises(KeyError):
        later.loss(batch, Rng(0, 1, "student", batch.ids))


@pytest.mark.parametrize("loss", ["hinge", "softplus"])
def test_trap9_each_head_gets_its_gradient_when_one_is_saturated(loss: Any) -> None:
    method = ladd(replace(BASE, loss=loss))
    sure = next(method.heads.each())
    with torch.no_grad():
        assert sure.judge.bias is not None
        sure.judge.weight.zero_()
        sure.judge.bias.fill_(-100)  # far beyond every margin on fakes
    run_step(method, [toy_batch()])
    other = list(method.heads.each())[1]
    # The last bias is moved by +1 and -1 alike while all logits lie inside the margin.
    assert all(g.abs().sum() > 0 for g in grads(other)[:-1])


def test_trap10_approximate_r1_perturbs_x0_at_the_same_noise_level_and_noise() -> None:
    method = ladd(replace(BASE, r1="approx", r1_noise_std=1e-3))
    seen: list[tuple[Tensor, Tensor]] = []
    features = method.teacher.features

    def spy(x: Tensor, sigma: Tensor, cond: Cond, layers: Sequence[int]) -> list[Tensor]:
        seen.append((x, sigma))
        return features(x, sigma, cond, layers)

    method.teacher.features = spy  # type: ignore[method-assign]
    _, logs = run_step(method, [toy_batch()])
    _, (x, sigma), (x_near, sigma_near) = seen  # fake, real, perturbed real
    assert torch.equal(sigma, sigma_near)
    shift = (x_near - x).flatten(1)
    assert 0 < shift.abs().max() < 1e-2
    assert_close(shift.std(1), (1 - sigma) * 1e-3, rtol=0.5, atol=0)
    assert logs["heads"]["r1"] > 0
    # A perturbation 10 times smaller finds the same slope.
    _, finer = run_step(ladd(replace(BASE, r1="approx", r1_noise_std=1e-2)), [toy_batch()])
    assert_close(logs["heads"]["r1"], finer["heads"]["r1"], rtol=0.1, atol=0)


def test_trap10_r1_is_zero_on_constant_heads_and_pulls_the_slope_down() -> None:
    for kind in ("exact", "approx"):
        method = ladd(replace(BASE, r1=kind, r1_weight=1e4))  # type: ignore[arg-type]
        batch = toy_batch(8)
        _, first = run_step(method, [batch], lrs={"heads": 1e-6, "student": 0.0})
        _, second = run_step(method, [batch])
        assert 0 < second["heads"]["r1"] < first["heads"]["r1"]
        with torch.no_grad():
            for head in method.heads.each():
                head.judge.weight.zero_()
        _, flat = run_step(method, [batch])
        assert flat["heads"]["r1"] == 0


def test_trap11_mixed_sizes_and_permuted_text_tokens() -> None:
    method = ladd()
    for rows, columns in [(4, 6), (6, 4), (2, 8)]:
        found, _ = run_step(method, [toy_batch(rows=rows, columns=columns)])
        assert all(g.isfinite().all() for g in found["student"])
    batch = toy_batch()
    turned = replace(batch, cond=Cond(tuple(t.flip(0) for t in batch.cond.tokens)))
    _, a = run_step(method, [batch])
    _, b = run_step(method, [turned])
    assert_close(a["heads"]["loss"], b["heads"]["loss"])


def test_trap13_student_levels_follow_the_schedule() -> None:
    cfg = replace(BASE, warmup_steps=10)
    method = ladd(cfg)
    levels: list[Tensor] = []
    method.student.register_forward_hook(lambda _m, inputs, _v: levels.append(inputs[1]))
    batch = toy_batch(4000, rows=2, columns=2)
    for step, probs in [(9, cfg.warmup_probs), (10, cfg.student_probs)]:
        with torch.no_grad():
            next(method.phases(step)).loss(batch, Rng(0, step, "heads", batch.ids))
        sigma = levels[-1]
        for value, p in zip(cfg.student_sigmas, probs, strict=True):
            share = (sigma == value).float().mean().item()
            assert share == pytest.approx(p, abs=4 * (p * (1 - p) / 4000) ** 0.5)


def test_trap13_renoise_levels_are_logit_normal() -> None:
    method = ladd(replace(BASE, renoise_mean=0.5, renoise_std=2.0))
    batch = toy_batch(4000, rows=2, columns=2)
    sigma, eps = method.draw_renoise(batch, Rng(0, 0, "heads", batch.ids))
    z = torch.logit(sigma.double())
    quantiles = torch.quantile(z, torch.tensor([0.1587, 0.5, 0.8413], dtype=torch.float64))
    expected = torch.tensor([-1.5, 0.5, 2.5], dtype=torch.float64)
    assert_close(quantiles, expected, rtol=0, atol=0.2)
    assert eps.std().item() == pytest.approx(1, abs=0.03)


def test_trap14_dropped_text_is_dropped_for_the_heads_as_well() -> None:
    method = ladd()
    batch = toy_batch()
    dropped = replace(batch, cond=Cond(tuple(torch.zeros(1, 6) for _ in batch.ids)))
    pooled: list[Tensor] = []
    method.heads.register_forward_hook(lambda _m, inputs, _v: pooled.append(inputs[2]))
    run_step(method, [batch])
    run_step(method, [dropped])
    assert_close(pooled[0], batch.cond.pooled())
    assert len(pooled) == 6  # fake, real, and the student's: twice
    assert all(torch.equal(p, torch.zeros_like(p)) for p in pooled[3:])


def test_trap23_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    """Not so with misaligned pairs: each takes the text of its neighbour in the micro-batch."""
    batch = toy_batch(16)
    halves = [
        Batch(ids=batch.ids[rows], x0=batch.x0[rows], cond=batch.cond[rows])
        for rows in (slice(0, 8), slice(8, 16))
    ]
    for cfg in (BASE, replace(BASE, renoise="independent", r1="approx", loss="softplus")):
        whole, _ = run_step(ladd(cfg), [batch])
        split, _ = run_step(ladd(cfg), halves)
        for name in ("heads", "student"):
            for a, b in zip(whole[name], split[name], strict=True):
                assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_shared_and_independent_renoise() -> None:
    for kind, same in (("shared", True), ("independent", False)):
        method = ladd(replace(BASE, renoise=kind))  # type: ignore[arg-type]
        levels: list[Tensor] = []
        method.heads.register_forward_hook(lambda _m, i, _v, levels=levels: levels.append(i[1]))
        run_step(method, [toy_batch()])
        fake, real, student = levels
        assert torch.equal(fake, student)
        assert torch.equal(fake, real) is same


def test_misaligned_pairs_are_real_pictures_under_another_text() -> None:
    cfg = replace(BASE, misaligned_weight=0.5)
    method, batch = ladd(cfg), toy_batch()
    _, logs = run_step(method, [batch])
    found = logs["heads"]
    fakes = (found["fake_loss"] + 0.5 * found["misaligned_loss"]) / 1.5
    assert_close(found["loss"], found["real_loss"] + fakes)
    sigma, eps = method.draw_renoise(batch, Rng(1, 0, "x", batch.ids))
    rolled = Batch(ids=batch.ids, x0=batch.x0, cond=batch.cond[[1, 2, 3, 0]])
    view = method.view(rolled.x0, sigma, eps, rolled.cond)
    expected = (1 + method.judge(view)).relu().mean()
    assert_close(method.misaligned_loss(batch, sigma, eps), expected)


def test_misaligned_pairs_with_equal_texts_count_nothing() -> None:
    method, batch = ladd(replace(BASE, misaligned_weight=1.0)), toy_batch(4)
    same = replace(batch, cond=batch.cond[[0, 0, 0, 0]])
    _, logs = run_step(method, [same])
    assert logs["heads"]["misaligned_loss"] == 0


def test_trap26_ema_follows_student_moves_only_and_is_exported() -> None:
    method = ladd(replace(BASE, student_every=2, ema_warmup=False))
    start = copy.deepcopy(method.student.state_dict())
    lrs = {"heads": 0.1, "student": 0.1}
    run_step(method, [toy_batch()], step=0, lrs=lrs)
    assert int(method.ema.updates) == 0
    run_step(method, [toy_batch()], step=1, lrs=lrs)
    assert int(method.ema.updates) == 1
    for name, weight in method.exported().named_parameters():
        assert_close(weight, 0.5 * start[name] + 0.5 * method.student.get_parameter(name))


def test_health_by_level_survives_averaging() -> None:
    method = ladd()
    _, logs = run_step(method, [toy_batch(16)])
    found = logs["heads"]
    for name in ("real", "fake"):
        assert_close(found[f"{name}_share_by_sigma"].sum(), torch.tensor(1.0))
        assert_close(found[f"{name}_correct_by_sigma"].sum(), found[f"{name}_accuracy"])
        assert_close(found[f"{name}_logit_by_sigma"].sum(), found[f"{name}_logit"])
        assert_close(found[f"{name}_accuracy_by_head"].mean(), found[f"{name}_accuracy"])
    assert_close(found["gap_by_head"].mean(), found["gap"])
    assert all(v.isfinite().all() and not v.requires_grad for v in found.values())


def test_health_of_known_logits() -> None:
    net = ladd().heads  # two heads, here of two patches each
    real = torch.tensor([[3.0, 1.0, -1.0, 1.0], [1.0, 1.0, -2.0, -4.0]])
    fake = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-1.0, -3.0, -2.0, -2.0]])
    found = health(net, real, torch.tensor([0.1, 1.0]), fake, torch.tensor([0.6, 0.7]))
    expected = {
        "real_accuracy": 5 / 8,
        "fake_accuracy": 6 / 8,
        "real_accuracy_by_head": [1, 1 / 4],
        "fake_accuracy_by_head": [1, 1 / 2],
        "gap": 0 - (-1),
        "gap_by_head": [1.5 + 1.5, -1.5 + 0.5],
        "real_share_by_sigma": [1 / 2, 0, 0, 1 / 2],
        "fake_share_by_sigma": [0, 0, 1, 0],
        "real_correct_by_sigma": [3 / 4 / 2, 0, 0, 2 / 4 / 2],
        "real_logit_by_sigma": [1 / 2, 0, 0, -1 / 2],
    }
    for name, value in expected.items():
        assert_close(found[name], torch.tensor(value, dtype=torch.float32), msg=name)


def test_batch_of_one_is_refused_where_it_teaches_nothing() -> None:
    one = toy_batch(1)
    with pytest.raises(ValueError, match=r"micro-batch of 1.*at least 2, or loss='softplus'"):
        run_step(ladd(), [one])
    softplus = replace(BASE, loss="softplus")
    run_step(ladd(softplus), [one])
    with pytest.raises(ValueError, match=r"misaligned_weight > 0 got a micro-batch of 1"):
        run_step(ladd(replace(softplus, misaligned_weight=0.1)), [one])


def test_construction_refuses_what_cannot_work() -> None:
    good = ladd()
    with pytest.raises(ValueError, match="teacher must be frozen"):
        LADD(BASE, student=good.student, teacher=ToyBackbone(), heads=good.heads)
    with pytest.raises(ValueError, match=r"must lie in 0 .. 2 for this teacher, got \[3\]"):
        ladd(replace(BASE, layers=(0, 3)))
    with pytest.raises(ValueError, match="names 3 blocks, but there are 2 heads"):
        LADD(
            replace(BASE, layers=(0, 1, 2)),
            student=good.student, teacher=good.teacher, heads=good.heads,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": (1, 1)}, "ladd.layers must name distinct"),
        ({"student_sigmas": (1.0, 0.5)}, "student_probs needs one value for each of the 2"),
        ({"student_sigmas": (1.0, 0.9, 0.5, 0.0)}, r"student_sigmas must lie in \(0, 1\]"),
        ({"student_probs": (0.7, 0.1, 0.1, 0.2)}, "student_probs must be >= 0 and sum to 1"),
        ({"warmup_probs": (1.5, -0.5, 0.0, 0.0)}, "warmup_probs must be >= 0 and sum to 1"),
        ({"student_every": 0}, "student_every must be >= 1, got 0"),
        ({"heads_first": -1}, "heads_first must be >= 0, got -1"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0, got -1"),
        ({"renoise_std": 0.0}, "renoise_std must be > 0, got 0.0"),
        ({"r1_weight": -1.0}, "r1_weight must be > 0, got -1.0"),
        ({"misaligned_weight": float("nan")}, "misaligned_weight must be >= 0, got nan"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), got 1.0"),
    ],
)
def test_config_errors_name_key_and_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BASE, **change)


def test_toy_student_moves_to_the_data() -> None:
    """Two modes in the plane (a latent of one pixel, two channels), one step from pure noise."""
    cfg = replace(
        BASE,
        layers=(0, 1, 2),
        loss="softplus",
        renoise_mean=-0.5,
        student_sigmas=(1.0,),
        student_probs=(1.0,),
        warmup_probs=(1.0,),
        ema_decay=0.9,
    )
    method = ladd(cfg, patch=1, width=32)
    modes = torch.tensor([[1.5, 0.5], [-1.5, -0.5]])
    text = torch.zeros(1, 6)

    def from_modes(student: nn.Module) -> Tensor:
        """Distances (samples, modes) of what the student draws."""
        eps = Rng(5, 0, "eval", range(256)).randn(2, 1, 1)
        with torch.no_grad():
            x0_hat = eps - student(eps, torch.ones(256), Cond((text,) * 256))
        return torch.cdist(x0_hat.flatten(1), modes)

    before = from_modes(method.student).min(1).values.mean()
    optims = {
        "heads": torch.optim.Adam(method.heads.parameters(), 3e-3, betas=(0.0, 0.99)),
        "student": torch.optim.Adam(method.student.parameters(), 2e-3, betas=(0.0, 0.99)),
    }
    for step in range(160):
        ids = tuple(f"{step}-{i}" for i in range(32))
        rng = Rng(0, step, "data", ids)
        x0 = modes[(rng.rand() * 2).long()] + 0.1 * rng.randn(2)
        batch = Batch(ids=ids, x0=x0.view(32, 2, 1, 1), cond=Cond((text,) * 32))
        for phase in method.phases(step):
            loss, _ = phase.loss(batch, Rng(0, step, phase.name, ids))
            optims[phase.name].zero_grad()
            loss.backward(inputs=list(phase.module.parameters()))
            optims[phase.name].step()
            phase.after()
    distances = from_modes(method.exported())
    assert distances.min(1).values.mean() < 0.5 * before
    share = (distances.argmin(1) == 0).float().mean()
    assert 0.2 < share < 0.8  # both modes, not one
