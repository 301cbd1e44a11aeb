"""Numbers over concepts and seeds, the cost of a step, and the records."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.common import facts
from benchmarks.dopsd_arms import Arm
from benchmarks.dopsd_costs import Passes, last, passes
from benchmarks.dopsd_memory import Held, unpack
from benchmarks.dopsd_records import memory_record, methods_records
from benchmarks.dopsd_rows import Row, over_concepts, share_of
from benchmarks.study_judge import Result
from tests.toy import ToyBackbone, toy_batch

from fewstep.evaluate.statistics import over_runs
from fewstep.experiment.tuning import Tuning
from fewstep.methods.distil import TeacherConfig
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.methods.dreambooth import DreamBooth, DreamBoothConfig
from fewstep.methods.offpolicy import OffPolicy, OffPolicyConfig
from fewstep.methods.pso import PSO, PSOConfig
from fewstep.methods.sft import SFT, SFTConfig
from fewstep.recipes.dopsd import dopsd_shapes
from fewstep.rng import Rng

MADE = facts("python -m x", 1)


def test_an_interval_is_over_the_concepts() -> None:
    found = {("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.6, ("c", 0): 0.5, ("c", 1): 0.7}
    assert over_concepts(found) == over_runs([0.2, 0.6, 0.6])
    assert math.isnan(over_concepts({("a", 0): 0.5, ("a", 1): 0.7}).low)
    assert math.isnan(over_concepts({}).value)


def test_a_share_is_of_sums_and_its_interval_that_of_residuals() -> None:
    own, bases = {"a": 0.4, "b": 0.1, "c": 0.3}, {"a": 0.5, "b": 0.0, "c": 0.3}
    e = share_of(own, bases)
    assert e.value == pytest.approx(1.0) and e.n_runs == 3
    off = over_runs([(-0.1) / (0.8 / 3), 0.1 / (0.8 / 3), 0.0])
    assert (e.low, e.high) == pytest.approx((1 + off.low, 1 + off.high))
    # a share that all concepts have exactly has no width
    same = share_of({"a": 0.2, "b": 0.4}, {"a": 0.5, "b": 1.0})
    assert (same.low, same.value, same.high) == pytest.approx((0.4, 0.4, 0.4))
    assert math.isnan(share_of(own, dict.fromkeys(own, 0.0)).value)


def test_a_share_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        bases = rng.uniform(0.2, 0.8, 6)
        own = 0.7 * bases + rng.normal(0, 0.05, 6)
        e = share_of(dict(enumerate(own)), dict(enumerate(bases)))  # pyright: ignore
        hits += e.low <= 0.7 <= e.high
    assert 0.92 <= hits / 400 <= 0.98


def row(name: str, values: dict[tuple[str, int], float | str]) -> Row:
    arm = Arm(name=name, question="method", level=name, base=dopsd_shapes())
    found: dict[tuple[str, int], Result] = {}
    for (concept, seed), x in values.items():
        few: dict[str, float] = {}
        if not isinstance(x, str):
            few = {"success": x, "adherence_change": x - 0.5, "kid_change": 0.0,
                   "concept_layouts": x}  # fmt: skip
        why = x if isinstance(x, str) else None
        found[concept, seed] = Result(name, seed, 1.0, {"few": few} if few else {}, why)
    return Row(arm=arm, results=found)


KEYS = [(concept, seed) for concept in "ab" for seed in (0, 1)]
MAIN = row("dopsd", dict(zip(KEYS, (0.4, 0.6, 0.7, 0.9), strict=True)))
SFT_ROW = row("sft", dict(zip(KEYS, (0.3, 0.5, 0.6, 0.8), strict=True)))


def test_rows_are_paired_by_concept_and_seed() -> None:
    part = row("sft", {KEYS[1]: 0.5, KEYS[2]: 0.1})
    assert MAIN.minus(part, "few", "success").value == pytest.approx((0.1 + 0.6) / 2)
    assert MAIN.over({"a": 0.5, "b": 1.0}, "few", "success").value == pytest.approx(1.3 / 1.5)
    e = MAIN.minus(SFT_ROW, "few", "success")
    assert (e.low, e.value, e.high) == pytest.approx((0.1, 0.1, 0.1))


def test_records_stand_on_every_run() -> None:
    broken = row("pso", {**dict.fromkeys(KEYS[1:], 0.5), KEYS[0]: "nothing was finite"})
    found = {c.id: c for c in methods_records([MAIN, SFT_ROW, broken], {"a": 0.5, "b": 1.0}, MADE)}
    ratio = found["dopsd.concept_success_ratio"]
    assert ratio.value == pytest.approx(1.3 / 1.5) and ratio.met is False and ratio.n == 4
    drop = found["dopsd.old_prompt_adherence_drop"]
    assert drop.value == pytest.approx(-0.15) and drop.met is True
    assert found["dopsd.sft_4step_adherence_drop"].value == pytest.approx(-0.05)
    assert "D-OPSD minus it 0.1 (0.1 to 0.1)" in found["dopsd.sft_concept_success"].note
    lacking = found["dopsd.pso_concept_success"]
    assert lacking.value is None and "1 of 4 runs lack the number" in lacking.note
    assert "nothing was finite" in lacking.note
    assert found["dopsd.offpolicy_concept_success"].note == "no run of it is there"


def test_growth_of_memory_is_of_what_autograd_holds() -> None:
    found = {f"{k} states": {"activations_mb": 10 + k, "peak_mb": 100.0} for k in (2, 4, 8, 16)}
    record = memory_record(found, MADE)
    assert record.value == pytest.approx(26 / 12) and record.met is False
    assert "grows 1.000 times" in record.note


def test_held_counts_a_storage_once_and_lets_it_go() -> None:
    weight, x = torch.zeros(100, requires_grad=True), torch.ones(1000, requires_grad=True)
    held = Held([weight])
    with torch.autograd.graph.saved_tensors_hooks(held.pack, unpack):
        y = x.exp()  # keeps its result
        z = y * y  # and the same twice
        (z.sum() + (weight * weight).sum()).backward()
        assert held.most == 4000
        del y, z
        other = torch.ones(500, requires_grad=True).exp()
        assert held.most == 4000 and other.numel() == 500
    assert x.grad is not None and x.grad[0] == pytest.approx(2 * math.exp(2))


METHODS: list[tuple[Tuning, Callable[..., Any]]] = [
    (SFTConfig(), SFT),
    (DreamBoothConfig(), DreamBooth),
    (DreamBoothConfig(prior_weight=0), DreamBooth),
    (PSOConfig(), PSO),
    (DOPSDConfig(), DOPSD),
    (DOPSDConfig(tether_weight=1), DOPSD),
    (DOPSDConfig(teacher=TeacherConfig(guidance=2)), DOPSD),
    (OffPolicyConfig(), OffPolicy),
    (OffPolicyConfig(states="teacher"), OffPolicy),
    (DOPSDConfig(visits=2, tether_weight=1), DOPSD),
    (OffPolicyConfig(states="teacher", visits=1), OffPolicy),
    (OffPolicyConfig(visits=3), OffPolicy),
]


@pytest.mark.parametrize(("cfg", "make"), METHODS)
def test_passes_are_those_that_are_made(cfg: Tuning, make: Callable[..., Any]) -> None:
    base = ToyBackbone(seed=1).requires_grad_(False)
    if not isinstance(cfg, SFTConfig | DreamBoothConfig):
        make = partial(make, base=base, sampler="euler")
    if isinstance(cfg, DOPSDConfig | OffPolicyConfig):
        make = partial(make, uncond=toy_batch(1, seed=9).cond)
    method = make(cfg, student=ToyBackbone(seed=1))
    batch = replace(toy_batch(4), context=toy_batch(4, seed=3).cond, prior=toy_batch(3, seed=5))
    graded = free = 0

    def count(module: ToyBackbone, args: tuple[Any, ...], out: torch.Tensor) -> None:
        nonlocal graded, free
        graded += len(args[0]) * out.requires_grad
        free += len(args[0]) * (not out.requires_grad)

    for model in {method.student, base, *(m for m in method.modules["ema"].modules()
                  if "ema" in method.modules and isinstance(m, ToyBackbone))}:  # fmt: skip
        model.register_forward_hook(count)
    drawn = getattr(cfg, "visits", None) is not None
    steps = 100 if drawn else 1
    for step in range(steps):
        [phase] = method.phases(step)
        for loss, _ in phase.parts(batch, Rng(0, step, "student", batch.ids)):
            loss.detach()
    expected = passes(cfg, 4, 3)
    assert graded / steps == pytest.approx(expected.graded)
    assert free / steps == pytest.approx(expected.free, rel=0.1 if drawn else 1e-9)


def test_the_last_of_a_few_levels() -> None:
    assert last(4, None) == last(4, 4) == 4 and last(4, 1) == 2.5
    assert passes(DOPSDConfig(), 4, 4) == Passes(16, 16)
