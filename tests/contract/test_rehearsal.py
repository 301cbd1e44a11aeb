"""A plan against the real thing: the same step with numbers, counted and weighed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fewstep.cli.planning import outline_of
from fewstep.data.batches import Batch
from fewstep.errors import UserError
from fewstep.experiment.builder import make_method, make_optims
from fewstep.experiment.config import Experiment
from fewstep.experiment.flash import flash
from fewstep.experiment.models import load_family
from fewstep.experiment.outline import outline
from fewstep.experiment.packing import pack_blocks
from fewstep.experiment.rehearsal import META, Kind, Lengths, batch_of, rehearse
from fewstep.families.base import Cond
from fewstep.families.recompute import recompute
from fewstep.families.zimage import ZImage
from fewstep.methods.base import Method
from fewstep.nets.adapters import AdapterConfig
from fewstep.recipes import RECIPES
from fewstep.train.live import Live, nbytes
from fewstep.train.optim import Optim
from fewstep.train.step import accumulate

CPU = torch.device("cpu")
LENGTHS = Lengths(cond=20, context=40)
LORA = AdapterConfig(kind="lora", rank=4, targets=("attention",))
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ladd": ("ladd_shapes_demo", {}),
    "ladd again": ("ladd_shapes_demo", {"recompute": True}),
    "ladd half again": ("ladd_shapes_demo", {"recompute": True, "recompute_share": 0.5}),
    "ladd packed": ("ladd_shapes_demo", {"frozen": "int8", "adapter": LORA}),
    "sda": ("sda_shapes", {}),
    "dopsd": ("dopsd_shapes", {}),
}


def experiment_of(recipe: str, model: Path, **change: Any) -> Experiment:
    found = RECIPES[recipe]()
    data = replace(found.data, batch_size=4, micro_batch=2)
    if recipe == "ladd_shapes_demo":
        loop = replace(found.loop, steps=60)
        method = replace(found.method, layers=(0, 1))
        found = replace(found, loop=loop, method=method)
    if found.teacher is not None:
        change["teacher"] = str(model)
    return replace(found, model=str(model), data=data, engine="plain", **change)


def real(experiment: Experiment, model: Path) -> tuple[ZImage, Method, dict[str, Optim]]:
    family = load_family(str(model), CPU)
    teacher = family if experiment.teacher is None else load_family(str(model), CPU)
    if experiment.recompute:
        recompute(family, teacher, share=experiment.recompute_share)
    if experiment.frozen != "dtype":
        pack_blocks(family, experiment.frozen)
    method = make_method(experiment, family, teacher, CPU)
    return family, method, make_optims(experiment, method)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_operations_are_counted_exactly_and_bytes_nearly(
    case: str, model: Path, record_property: Callable[[str, object], None]
) -> None:
    recipe, change = CASES[case]
    experiment = experiment_of(recipe, model, **change)
    family, method, optims = real(experiment, model)
    teacher = outline(model)
    planned = rehearse(
        experiment, outline(model) if experiment.teacher else teacher, teacher, LENGTHS
    )
    batch = batch_of(experiment, family, LENGTHS, 2)
    batch = replace(
        batch, x0=torch.randn(batch.x0.shape), cond=of_numbers(batch.cond),
        context=None if batch.context is None else of_numbers(batch.context),
        prior=batch.prior and replace(
            batch.prior, x0=torch.randn(batch.prior.x0.shape), cond=of_numbers(batch.prior.cond)
        ),
    )  # fmt: skip
    kinds = planned.kinds
    assert sum(kind.steps for kind in kinds) == experiment.loop.steps
    real_flops = counted(kinds[0], method, optims, batch)
    record_property("flops", max(abs(kinds[0].flops[n] / f - 1) for n, f in real_flops.items()))
    assert kinds[0].flops == real_flops
    real_bytes = weighed(kinds[0], method, optims, batch)
    off = {name: planned.peaks[name] / most - 1 for name, most in real_bytes.items()}
    record_property("bytes", max(map(abs, off.values())))  # `benchmarks.plan`
    assert all(abs(share) <= 0.1 for share in off.values()), off
    assert planned.parameters["student"] == sum(
        p.numel() for p in optims["student"].parameters.values()
    )


def of_numbers(cond: Cond) -> Cond:
    return Cond(tuple(torch.randn(t.shape) for t in cond.tokens))


def first_step(kind: Kind, method: Method) -> int:
    return next(s for s in range(99) if tuple(p.name for p in method.phases(s)) == kind.phases)


def counted(kind: Kind, method: Method, optims: dict[str, Optim], batch: Batch) -> dict[str, int]:
    found: dict[str, int] = {}
    step = first_step(kind, method)
    # the counter does not know the processor's own kernel of attention
    with sdpa_kernel(SDPBackend.MATH):
        for phase in method.phases(step):
            optim = optims[phase.name]
            with FlopCounterMode(display=False) as counter:
                accumulate(
                    phase, [(batch, 1.0)], list(optim.parameters.values()), scale=1.0, seed=0,
                    step=step, device=CPU,
                )  # fmt: skip
            found[phase.name] = 2 * counter.get_total_flops()  # two micro-batches
            optim.zero_grad()
    return found


def weighed(kind: Kind, method: Method, optims: dict[str, Optim], batch: Batch) -> dict[str, int]:
    """The most bytes of the second of two steps: what was there, and what torch's own allocator
    was asked for."""
    batches = [replace(batch, ids=tuple(f"{name} {i}" for name in batch.ids)) for i in range(2)]
    step, found = first_step(kind, method), dict[str, int]()
    models = [m for m in vars(method).values() if isinstance(m, torch.nn.Module)]
    for _ in range(2):
        left = 0  # of the phase before: the graph of the fakes
        for phase in method.phases(step):
            optim = optims[phase.name]
            moments = [t for o in optims.values() for kept in o.adam.state.values()
                       for t in kept.values()]  # fmt: skip
            modules = (*models, *method.modules.values())
            there = nbytes(
                [*moments, *(t for m in modules for t in (*m.parameters(), *m.buffers()))]
            )
            with allocations() as first:
                accumulate(
                    phase, [(b, 0.5) for b in batches], list(optim.parameters.values()),
                    scale=1.0, seed=0, step=step, device=CPU,
                )  # fmt: skip
            found[f"{phase.name}: gradients"] = there + left + first.most
            with allocations() as second:
                optim.step(optim.norm())
                optim.zero_grad()
                phase.after()
            found[f"{phase.name}: update"] = there + left + first.now + second.most
            left += first.now + second.now
    return found


@dataclass
class Allocated:
    now: int = 0
    most: int = 0


@contextmanager
def allocations() -> Iterator[Allocated]:
    """Bytes since the beginning of the block, as the profiler sees them."""
    found = Allocated()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        yield found
    events = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            found.now += event.nbytes()
            found.most = max(found.most, found.now)


def test_attention_keeps_no_matrix_of_all_pairs() -> None:
    n = 2048
    query = torch.zeros(1, 2, n, 16, device=META)
    with Live() as live, flash():
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert live.peak < 4 * n * n / 8
    with pytest.raises(ValueError, match="without masks"), flash():
        torch.nn.functional.scaled_dot_product_attention(
            query, query, query, attn_mask=torch.zeros(n, n, device=META)
        )


def test_the_published_model_has_its_size_and_takes_what_the_formula_says() -> None:
    family = outline_of("Tongyi-MAI/Z-Image", "model")
    config = family.pipeline.transformer.config
    assert sum(p.numel() for p in family.backbone.parameters()) == 6_154_908_736
    tokens, image, text = 128, 64 * 64 // 4, 128
    wide, feed = config["dim"], family.pipeline.transformer.layers[0].feed_forward.w1.out_features

    def block(n: int) -> int:
        return 2 * n * (4 * wide * wide + 3 * wide * feed) + 4 * n * n * wide

    modulation = (30 + 2) * 2 * 4 * wide * min(wide, 256)
    closed = 30 * block(image + text) + 2 * block(image) + 2 * block(text) + modulation
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        family.backbone(
            torch.zeros(1, 16, 64, 64, device=META), torch.zeros(1, device=META),
            Cond((torch.zeros(tokens, 2560, device=META),)),
        )  # fmt: skip
    # what comes before and after the blocks is less than a thousandth
    assert counter.get_total_flops() == pytest.approx(closed, rel=1e-3)
    assert counter.get_total_flops() / 1e12 == pytest.approx(13.7, abs=0.05)


@pytest.mark.slow
def test_few_bytes_are_few_in_the_plan(model: Path) -> None:
    """Bytes of a weight that trains: 4 + 4 + 4 of a whole one (its average, one moment), 2 + 2 + 1
    of an exact one with a moment in eight bits and no average."""
    ladd = experiment_of("ladd_shapes_demo", model)
    student = replace(ladd.optim.student, weights="exact", moments="8bit")
    few = replace(
        ladd, optim=replace(ladd.optim, student=student), method=replace(ladd.method, ema_decay=0.0)
    )
    whole, packed = (rehearse(e, f, f, LENGTHS) for e in (ladd, few) for f in [outline(model)])
    n, heads = whole.parameters["student"], 4 * whole.parameters["heads"]
    assert whole.parts["trained weights"] - heads == 4 * n == whole.parts["averages"]
    assert packed.parts["trained weights"] - heads == packed.parts["rest of weights"] == 2 * n
    assert packed.parts["averages"] == 0
    # an update reads and writes weights and what is kept of them, and reads gradients
    assert whole.moved["student"] == pytest.approx((3 * 4 + 2 * 4) * n, rel=0.01)
    assert packed.moved["student"] == pytest.approx((3 * 2 + 2 * (2 + 1 + 1 / 64)) * n, rel=0.02)
    assert packed.parts["moments"] - whole.parts["moments"] + 4 * n == pytest.approx(n, rel=0.1)


@pytest.mark.slow
def test_what_waits_in_main_memory_takes_none_of_the_device(model: Path) -> None:
    ladd = experiment_of("ladd_shapes_demo", model)
    student = replace(ladd.optim.student, weights="exact", moments="8bit")
    off = replace(student, offload=True)
    here, there = (
        rehearse(replace(ladd, optim=replace(ladd.optim, student=s)), f, f, LENGTHS)
        for s in (student, off) for f in [outline(model)]
    )  # fmt: skip
    n, waits = here.parameters["student"], there.offloaded["student"]
    assert here.offloaded == {"heads": 0, "student": 0} and there.offloaded["heads"] == 0
    assert waits == pytest.approx((2 + 1 + 1 / 64) * n, rel=0.01)
    assert here.pinned == 0 and waits < there.pinned < 2 * waits
    assert sum(here.parts.values()) - sum(there.parts.values()) == waits
    assert there.parts["rest of weights"] == 0
    spared = {name: most - there.peaks[name] for name, most in here.peaks.items()}
    # an update has fetched what waits for one parameter, which is a fifth of this small model
    assert 0.75 * waits < spared.pop("student: update") < waits
    assert list(spared.values()) == pytest.approx([waits] * len(spared), rel=1e-3)


def test_an_adapter_trains_little(model: Path) -> None:
    ladd = experiment_of("ladd_shapes_demo", model)
    adapter = replace(ladd, adapter=AdapterConfig(kind="lora", rank=4))
    family = outline(model)
    found = rehearse(adapter, family, family, LENGTHS)
    assert found.parameters["student"] < found.parameters["frozen model 1"] / 10
    assert found.parts["frozen models"] == 4 * found.parameters["frozen model 1"]


def test_a_model_that_nobody_knows_is_asked_for() -> None:
    with pytest.raises(UserError, match="'some/model' is not on this machine, and its sizes"):
        outline_of("some/model", "model")
