"""Activation checkpointing: the same gradients from less memory, really recomputed, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.said import error
from tests.tiny import tiny_zimage
from torch import Tensor

from fewstep.cli import main
from fewstep.data.batches import Batch
from fewstep.errors import UserError
from fewstep.experiment.builder import prepare
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import make_world
from fewstep.families.recompute import recompute
from fewstep.methods.ladd import LADDConfig
from fewstep.methods.sda import SDAConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.recipes import RECIPES
from fewstep.rng import Rng
from fewstep.runs import RunError
from fewstep.train.step import accumulate

CLOSE = 1e-6


def experiment(recipe: str, adapter: AdapterConfig | None) -> Experiment:
    """Of few passes, as it would train a tiny model."""
    base = replace(RECIPES[recipe](), engine="plain", adapter=adapter)
    match base.method:
        case LADDConfig() as method:
            return replace(base, method=replace(method, student_every=1, heads_first=0))
        case SDAConfig() as method:
            return replace(base, method=replace(method, teacher_steps=1, pool=1))
        case _:
            return base


def slopes(recipe: str, adapter: AdapterConfig | None, *, checkpointed: bool, share: float = 1.0):
    """Gradients of every phase of a step, what autograd held at most in bytes, and the blocks that
    were computed again. The adapters are not at their start, where they do nothing."""
    family = tiny_zimage()
    teacher = tiny_zimage(1) if recipe == "sda_shapes" else family
    counter = recompute(family, teacher, share=share) if checkpointed else None
    cfg = experiment(recipe, adapter)
    method, optims = prepare(cfg, family, teacher, make_world(cfg), torch.device("cpu"))
    with torch.no_grad():
        draws = torch.Generator().manual_seed(0)
        for optim in optims.values():
            for p in optim.parameters.values():
                p.add_(0.02 * torch.randn(p.shape, generator=draws))
    ids = ("a", "b")
    batch = Batch(
        ids=ids, x0=Rng(0, 0, "data", ids).randn(8, 16, 16),
        cond=family.encode_text(["a red circle", "two blue squares"]),
    )  # fmt: skip
    held: dict[int, int] = {}
    most = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal most
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        most = max(most, sum(held.values()))
        return tensor

    found: dict[str, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for phase in method.phases(1):
            inputs = list(optims[phase.name].parameters.values())
            accumulate(phase, [(batch, 1.0)], inputs, scale=1.0, seed=0, step=1, device="cpu")
            found |= {
                f"{phase.name}: {name}": p.grad.clone()
                for name, p in optims[phase.name].parameters.items()
                if p.grad is not None
            }
            optims[phase.name].zero_grad()
    weights = {p.untyped_storage().data_ptr() for m in (family, teacher)
               for p in m.backbone.parameters()}  # fmt: skip
    return found, sum(n for at, n in held.items() if at not in weights), counter


@pytest.mark.fault(12, 13)
@pytest.mark.parametrize(
    ("recipe", "adapter"),
    [
        ("ladd_shapes", None),
        ("ladd_shapes", AdapterConfig(kind="lora", rank=2)),
        ("sda_shapes", AdapterConfig(factor=2)),
    ],
)
def test_gradients_are_those_of_kept_activations(
    recipe: str, adapter: AdapterConfig | None
) -> None:
    """Through the frozen teacher too, and with an adapter in one of two trees over its weights."""
    plain, kept, _ = slopes(recipe, adapter, checkpointed=False)
    again, less, counter = slopes(recipe, adapter, checkpointed=True)
    assert plain.keys() == again.keys() and len(plain) > 10
    for name, slope in plain.items():
        size = float(slope.abs().max())
        assert float((again[name] - slope).abs().max()) <= CLOSE * max(size, 1e-3), name
    assert any(float(slope.abs().max()) > 0 for slope in plain.values())
    assert counter is not None and counter.again > 0
    assert less < kept / 2


def test_a_share_of_the_blocks_keeps_what_the_others_do_not() -> None:
    _, kept, _ = slopes("ladd_shapes", None, checkpointed=False)
    plain, least, every = slopes("ladd_shapes", None, checkpointed=True)
    half, some, counter = slopes("ladd_shapes", None, checkpointed=True, share=0.5)
    assert all(torch.equal(half[name], plain[name]) for name in plain)
    assert least < some < kept
    assert counter is not None and every is not None and 0 < counter.again < every.again


@pytest.mark.fault(12)
def test_a_model_that_has_none_is_refused() -> None:
    family = tiny_zimage()
    family.pipeline.transformer._supports_gradient_checkpointing = False
    with pytest.raises(UserError, match="recompute is true, but ZImageTransformer2DModel has no"):
        recompute(family)


def test_a_step_that_computed_nothing_again_is_told() -> None:
    """As where a library takes the switch and keeps the activations all the same."""
    family = tiny_zimage()
    counter = recompute(family)
    with pytest.raises(RunError, match="recompute is true, but a step has computed no block again"):
        counter.check()
    family.backbone.requires_grad_(True)
    x = torch.randn(1, 8, 16, 16)
    family.backbone(x, torch.tensor([0.5]), family.encode_text(["a"])).sum().backward()
    counter.check()


@pytest.mark.fault(12)
@pytest.mark.parametrize("engine", ["fused", "compiled"])
def test_engines_that_keep_activations_are_refused(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "ladd_shapes",
        "--engine",
        engine,
        "--recompute",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main([*words, "--dry-run"]) == 2
    assert f"recompute is true, but engine {engine} keeps its activations" in error(capsys)


def test_shares_that_nobody_reads_or_that_mean_nothing_are_refused() -> None:
    base = replace(RECIPES["ladd_shapes"](), engine="plain")
    with pytest.raises(ValueError, match=r"recompute_share is 0\.5, which is read where recompute"):
        replace(base, recompute_share=0.5)
    with pytest.raises(UserError, match=r"recompute_share is 0\.05, which of 6 blocks is none"):
        recompute(tiny_zimage(), share=0.05)
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"recompute_share must lie in \(0, 1\]"):
            replace(base, recompute=True, recompute_share=wrong)
