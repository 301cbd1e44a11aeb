"""LADD: from which levels, noises, texts and perturbations its losses are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tests.ladd_steps import BASE, ladd, run_step
from tests.toy import toy_batch
from torch import Tensor
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.rng import Rng


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
    view = method.judge.view(rolled.x0, sigma, eps, rolled.cond)
    expected = (1 + method.judge(view)).relu().mean()
    assert_close(method.judge.misaligned_loss(batch, sigma, eps, method.game), expected)


def test_misaligned_pairs_with_equal_texts_count_nothing() -> None:
    method, batch = ladd(replace(BASE, misaligned_weight=1.0)), toy_batch(4)
    same = replace(batch, cond=batch.cond[[0, 0, 0, 0]])
    _, logs = run_step(method, [same])
    assert logs["heads"]["misaligned_loss"] == 0
