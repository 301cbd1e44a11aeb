"""Weights that move inside the backward pass, beside the same steps after it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.games import Drawn
from tests.sharded import in_context
from tests.toy import ToyBackbone
from torch import Tensor

from fewstep.data.batches import Batch, Batches
from fewstep.errors import UserError
from fewstep.experiment.builder import check_processes, prepare
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import make_world, model_path
from fewstep.experiment.outline import outline
from fewstep.methods.base import PhaseInParts
from fewstep.methods.ladd import LADDConfig
from fewstep.methods.sft import SFT, SFTConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.nets.shard import ShardingConfig
from fewstep.recipes import RECIPES
from fewstep.train.adam import MomentsName, WeightsName
from fewstep.train.in_backward import reached
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.ranks import Ranks
from fewstep.train.step import run_step

ADAPTER = AdapterConfig(kind="lora", rank=2)
BATCHES = Batches(Drawn(), batch_size=1, seed=0, micro_batch=None)
PLAIN = OptimConfig(lr=1e-3, betas=(0.9, 0.99), clip=None, weight_decay=0.01)


class Training:
    """SFT on the toy backbone, by an optimizer of its own."""

    def __init__(self, cfg: OptimConfig) -> None:
        student = ToyBackbone(depth=2, seed=1)
        if cfg.weights != "float32":
            student.bfloat16()
        self.method = SFT(SFTConfig(ema_decay=0.9), student=student)
        self.optims = {"student": Optim(cfg, student, total=20)}
        self.parameters = self.optims["student"].parameters

    def step(self, step: int, batch: Batch | None = None) -> str | None:
        batches = BATCHES(step) if batch is None else [batch]
        low = next(iter(self.parameters.values())).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            return run_step(self.method, batches, self.optims, {}, seed=0, step=step)

    def state(self) -> dict[str, Tensor]:
        tensors, _ = self.optims["student"].state()
        modules = self.method.modules.items()
        return {f"{n}.{k}": v.clone() for n, m in modules for k, v in m.state_dict().items()} | {
            name: value.clone() for name, value in tensors.items()
        }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


@pytest.mark.parametrize(
    ("weights", "moments"),
    [("float32", "float32"), ("float32", "8bit"), ("exact", "8bit"), ("stochastic", "float32")],
)
def test_without_clipping_it_is_the_same_run(weights: WeightsName, moments: MomentsName) -> None:
    """Bit for bit, averages and moments too."""
    cfg = replace(PLAIN, weights=weights, moments=moments)
    after, inside = Training(cfg), Training(replace(cfg, in_backward=True))
    for step in range(5):
        assert after.step(step) is inside.step(step) is None
    assert same(after.state(), inside.state()) == []
    assert inside.optims["student"].updates == 5


def test_gradients_are_clipped_by_the_norm_before() -> None:
    """The first each by its own, all others by one number: what an update after the pass would do
    with gradients scaled so."""
    cfg = replace(PLAIN, clip=0.05, betas=(0.0, 0.99))
    inside, after = Training(replace(cfg, in_backward=True)), Training(replace(cfg, clip=None))
    before: float | None = None
    norms = list[float]()
    for step in range(3):
        inside.step(step)
        optim = after.optims["student"]
        real = optim.step

        def clipped(norm: Tensor, optim: Optim = optim, before: float | None = before) -> None:
            norms.append(float(norm))
            for p in optim.parameters.values():
                if p.grad is not None:
                    of = p.grad.norm() if before is None else before
                    p.grad *= (0.05 / (of + 1e-6)) if of > 0.05 else 1.0
            type(optim).step(optim, norm)

        optim.step = clipped
        after.step(step)
        optim.step = real
        before = norms[-1]
        assert before > 0.05
    found = inside.state()
    for name, value in after.state().items():
        assert torch.allclose(found[name].double(), value.double(), rtol=1e-4, atol=1e-7), name


def test_one_gradient_is_there_at_a_time() -> None:
    training, seen = Training(replace(PLAIN, in_backward=True)), list[int]()
    optim = training.optims["student"]
    real = optim.step_of

    def step_of(name: str, norm: Tensor) -> None:
        seen.append(sum(p.grad is not None for p in training.parameters.values()))
        real(name, norm)

    optim.step_of = step_of
    training.step(0)
    assert set(seen) == {1} and len(seen) > 5
    assert all(p.grad is None for p in training.parameters.values())
    assert not any(p._post_accumulate_grad_hooks for p in training.parameters.values())


def test_a_run_goes_on_from_its_state() -> None:
    cfg = replace(PLAIN, clip=0.05, in_backward=True)
    straight, first, again = Training(cfg), Training(cfg), Training(cfg)
    for step in range(4):
        straight.step(step)
    for step in range(2):
        first.step(step)
    for name, module in again.method.modules.items():
        module.load_state_dict(copy.deepcopy(first.method.modules[name].state_dict()))
    again.optims["student"].load(*first.optims["student"].state())
    for step in range(2, 4):
        again.step(step)
    assert same(straight.state(), again.state()) == []


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    training = Training(replace(PLAIN, in_backward=True))
    training.step(0)
    before, [batch] = training.state(), BATCHES(1)
    assert training.step(1, replace(batch, x0=batch.x0 * torch.nan)) == (
        "the loss of phase 'student'"
    )
    assert same(before, training.state()) == []
    assert training.step(1) is None


def test_a_gradient_that_is_not_finite_leaves_its_own_weight_where_it_was() -> None:
    training = Training(replace(PLAIN, in_backward=True, weight_decay=0.0, betas=(0.0, 0.99)))
    training.step(0)
    name, p = next(iter(training.parameters.items()))
    norm = training.optims["student"].norm_before
    before = {n: value.detach().clone() for n, value in training.parameters.items()}
    handle = p.register_hook(lambda gradient: gradient * torch.inf)
    assert training.step(1) == "the gradient of phase 'student'"
    handle.remove()
    moved = [n for n, value in training.parameters.items() if not torch.equal(value, before[n])]
    assert name not in moved and len(moved) > 5
    assert training.optims["student"].norm_before == norm  # of the last good step
    assert training.step(2) is None and p.isfinite().all()


def test_what_needs_all_gradients_first_is_refused() -> None:
    training = Training(replace(PLAIN, in_backward=True))
    batches = [batch for step in range(2) for batch in BATCHES(step)]
    with pytest.raises(ValueError, match="takes one micro-batch a step and one process, got 2"):
        run_step(training.method, batches, training.optims, {}, seed=0, step=0)
    with pytest.raises(ValueError, match="one process, got 1 and 2"):
        run_step(training.method, BATCHES(0) * 2, training.optims, {}, seed=0, step=0,
                 ranks=Ranks(rank=0, count=2))  # fmt: skip
    student = training.method.student

    class InParts:
        modules = training.method.modules

        def phases(self, step: int):
            yield PhaseInParts("student", student, lambda batch, rng: iter(()))

        def exported(self) -> ToyBackbone:
            raise AssertionError

    with pytest.raises(ValueError, match=r"in_backward is true, but the loss of this"):
        run_step(InParts(), in_context(0)[:1], training.optims, {}, seed=0, step=0)


def with_optim(recipe: str, **changes: object) -> Experiment:
    base = RECIPES[recipe]()
    student = replace(base.optim.student, in_backward=True)
    return replace(base, optim=replace(base.optim, student=student), **changes)


def in_parts(recipe: str) -> bool:
    """Whether a phase of its method is one."""
    found = RECIPES[recipe]()
    method, _ = prepare(
        replace(found, model="shapes", engine="plain", assistant=None, adapter=ADAPTER,
                teacher="shapes" if found.teacher else None),
        family := outline(Path(model_path("shapes"))), family, make_world(found),
        torch.device("meta"),
    )  # fmt: skip
    return any(
        isinstance(phase, PhaseInParts) for step in range(3) for phase in method.phases(step)
    )


@pytest.mark.parametrize(
    "recipe",
    ["ladd_shapes", "dmd2_shapes", "sda_shapes", "sft_tune_shapes", "dopsd_shapes",
     "dreambooth_shapes", "pso_shapes", "offpolicy_shapes"],
)  # fmt: skip
def test_methods_whose_losses_come_in_parts_are_refused_and_no_others(recipe: str) -> None:
    data = replace(RECIPES[recipe]().data, batch_size=1, micro_batch=None)
    if in_parts(recipe):
        with pytest.raises(ValueError, match=r"in_backward is true, but the loss of method"):
            with_optim(recipe, data=data)
    else:
        method = RECIPES[recipe]().method
        if isinstance(method, LADDConfig):
            method = replace(method, loss="softplus")  # the hinge needs two samples
        with_optim(recipe, data=data, method=method)


def test_experiments_that_would_need_all_gradients_are_refused() -> None:
    base = RECIPES["ladd_shapes"]().data
    alike = replace(base, alike=True)
    found = with_optim("ladd_shapes", data=alike)
    with pytest.raises(ValueError, match=r"data\.batch_size = 32 may have prompts of several"):
        with_optim("ladd_shapes")
    with pytest.raises(ValueError, match=r"data\.micro_batch = 2 adds up the gradients"):
        with_optim("ladd_shapes", data=replace(alike, micro_batch=2))
    with pytest.raises(ValueError, match=r"in_backward is true, but sharding\.mode is optimizer"):
        sharding = ShardingConfig(mode="optimizer")
        with_optim("ladd_shapes", data=alike, engine="plain", sharding=sharding)
    check_processes(found, 1)
    with pytest.raises(UserError, match=r"but 2 processes sum their gradients"):
        check_processes(found, 2)


def test_what_its_first_updates_moved_is_told() -> None:
    training = Training(replace(PLAIN, in_backward=True))
    training.step(0)
    said = training.optims["student"].first_move("student")
    assert said is not None and said.startswith("the first update of student moved 100.0%")
    assert training.optims["student"].first_move("student") is None
    training.step(1)
    assert training.optims["student"].first is None
    assert reached(training.optims).startswith("weights that moved in its backward pass")
    assert reached(Training(PLAIN).optims) == "nothing of it reached the weights"


def test_with_moments_a_gradient_that_is_not_finite_counts_as_zero() -> None:
    """As an update by zero after the pass would move it."""
    cfg = replace(PLAIN, weight_decay=0.01)
    inside, after = Training(replace(cfg, in_backward=True)), Training(cfg)
    name = next(iter(inside.parameters))
    for training in (inside, after):
        training.step(0)
    handle = inside.parameters[name].register_hook(lambda gradient: gradient * torch.inf)
    inside.step(1)
    handle.remove()
    handle = after.parameters[name].register_hook(lambda gradient: gradient * 0)
    after.step(1)
    handle.remove()
    found, expected = inside.state(), after.state()
    assert [n for n in same(found, expected) if not n.startswith("ema.")] == []
