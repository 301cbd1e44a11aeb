"""Trees that hold adapter files: by value against merged weights, who trains, what is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from tests.adapted import cond, noise, relative, run
from tests.lora import CARD, deltas, in_blocks, lokr_state, lora_state, merged
from tests.tiny import tiny_zimage
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.trees import Bare, attached, make_sda, stacked, state_of
from fewstep.families.adapter_files import write
from fewstep.families.adapters import Gate, Gated, recorded, strength_of, written
from fewstep.families.base import Backbone, Cond
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.methods.base import Method
from fewstep.methods.sda import SDA
from fewstep.nets.adapters import AdapterConfig, adapter_state, adapters_of
from fewstep.nets.adapters import merged as merge
from fewstep.recipes.ladd import ladd_shapes
from fewstep.recipes.sda import sda_shapes
from fewstep.rng import Rng

Share = Literal["asymmetric", "symmetric"]


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


@pytest.fixture(scope="module")
def helper(family: ZImage) -> dict[str, Tensor]:
    """An assistant that reaches less than the adapter that trains, and more: into the refiner."""
    layers = dict(in_blocks(family, "to_q", "to_v", "w2"))
    layers["noise_refiner.0.attention.to_q"] = layers["layers.0.attention.to_q"]
    return lora_state(layers)


@pytest.fixture(scope="module")
def file(helper: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("assistant") / "helper.safetensors"
    write(path, helper, CARD)
    return path


@pytest.mark.parametrize("kind", ["lokr", "low rank", "lora"])
@torch.no_grad()
def test_a_tree_with_a_file_is_the_model_with_it_merged(
    family: ZImage, kind: str, tmp_path: Path
) -> None:
    state = {
        "lokr": lambda: lokr_state(in_blocks(family)),
        "low rank": lambda: lokr_state(in_blocks(family), rank=3),
        "lora": lambda: lora_state(in_blocks(family, "to_q", "w1")),
    }[kind]()
    path = tmp_path / "a.safetensors"
    write(path, state, CARD)
    base = family.backbone
    assert isinstance(base, ZImageBackbone)
    before = run(base)
    tree = stacked(family, [state_of(family, path)], [0.5], 4)
    assert isinstance(tree, ZImageBackbone)
    assert relative(run(tree), run(merged(family, state, 0.5))) < 1e-5
    assert relative(run(tree), before) > 0.01
    assert torch.equal(run(base), before)
    assert not any(p.requires_grad for p in tree.parameters())
    own = {id(p) for p in base.parameters()}
    assert sum(p.numel() for p in tree.parameters() if id(p) not in own) == sum(
        t.numel() for t in state.values()
    )


@torch.no_grad()
def test_a_stack_adds_what_each_file_adds_and_a_gate_counts_steps(family: ZImage) -> None:
    one, two = lokr_state(in_blocks(family)), lora_state(in_blocks(family, "to_q", "w1"))
    base = family.backbone
    tree = stacked(family, [one, two], [Gate((1, 0.5, 0, 0)), 0.7], 4)
    assert isinstance(tree, Gated) and len({id(t) for t in tree.trees}) == 3
    factors = sum(t.numel() for t in (*one.values(), *two.values()))
    assert sum(p.numel() for p in tree.parameters()) == factors + sum(
        p.numel() for p in base.parameters()
    )
    x, text = noise(), cond(base)  # pyright: ignore[reportArgumentType]
    for sigma, strength in zip(family.sigmas(4), (1.0, 0.5, 0.0, 0.0), strict=False):
        at = torch.full((2,), sigma)
        weights = merged(family, one, strength).transformer
        for layer, dw in deltas(two).items():
            weights.get_submodule(layer).weight += 0.7 * dw  # pyright: ignore
        assert relative(tree(x, at, text), ZImageBackbone(weights)(x, at, text)) < 1e-5
    assert stacked(family, [], [], 4) is base
    whole = stacked(family, [one], [Gate((1, 1))], 2)
    assert not isinstance(whole, Gated)


def test_what_does_nothing_or_does_not_fit_is_refused(family: ZImage, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = lokr_state(in_blocks(family))
    for factor in ("w1", "w2"):
        write(path, {k: v * (not k.endswith(factor)) for k, v in state.items()}, CARD)
        with pytest.raises(UserError, match=r"a\.safetensors does .*: it changes 0 modules, for"):
            state_of(family, path)
    write(path, {k.replace("layers", "blocks"): v for k, v in state.items()}, CARD)
    with pytest.raises(UserError, match="it has no place for 96 of its 96 tensors"):
        state_of(family, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,x", "a finite number, or one for each step as in 1,1,0,0, got '1,x'"),
        ("1,inf", "got '1,inf'"), ("1,", "got '1,'"), ("x", "got 'x'"),
    ],
)  # fmt: skip
def test_strengths_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        strength_of(text)


def test_a_strength_reads_back_as_it_is_written() -> None:
    gate = strength_of("1.0, 0.1,-0,1e-9")
    assert gate == Gate((1, 0.1, 0, 1e-9))
    assert written(gate) == recorded(gate) == "1,0.1,-0,1e-09"
    assert strength_of(written(gate)) == gate
    assert strength_of(written(0.7)) == 0.7 and written(1.0) == "1" and recorded(1.0) == 1.0
    with pytest.raises(ValueError, match="two or more strengths, got 1"):
        Gate((1.0,))


def assisted(family: ZImage, file: Path, share: Share) -> tuple[Experiment, Method]:
    """SDA with an assistant; its adapter as training might leave it."""
    experiment = replace(
        sda_shapes(), assistant=str(file), assistant_share=share, adapter=AdapterConfig(factor=4)
    )
    cfg = experiment.method
    assert not isinstance(cfg, type) and cfg.name == "sda"
    uncond = family.encode_text([""])
    return experiment, make_sda(experiment, replace(cfg, pool=1), family, family, uncond)


def inner(method: Method) -> SDA:
    found = method.method if isinstance(method, Bare) else method
    assert isinstance(found, SDA)
    return found


def batch(family: ZImage) -> Batch:
    text: Cond = cond(family.backbone)  # pyright: ignore[reportArgumentType]
    return Batch(ids=("a", "b"), x0=noise(5), cond=text)


@torch.no_grad()
def trained(method: Method) -> None:
    """Move the adapter and its average apart."""
    sda = inner(method)
    draws = torch.Generator().manual_seed(3)
    for tree, size in ((sda.student, 0.05), (sda.ema.average, 0.1)):
        for value in adapter_state(tree).values():
            value.normal_(0, size, generator=draws)


@torch.no_grad()
def test_asymmetric_the_assistant_is_where_the_first_noise_is(
    family: ZImage, helper: dict[str, Tensor], file: Path
) -> None:
    sda = inner(assisted(family, file, "asymmetric")[1])
    assert sda.assisted is not None and sda.base is family.backbone
    with_it, without = run(merged(family, helper)), run(family.backbone)  # pyright: ignore
    assert relative(run(sda.assisted.base), with_it) < 1e-5  # pyright: ignore
    assert relative(run(sda.assisted.student), with_it) < 1e-5  # pyright: ignore
    assert torch.equal(run(sda.student), without)  # pyright: ignore


@torch.no_grad()
def test_symmetric_the_assistant_is_in_every_tree_of_the_training(
    family: ZImage, helper: dict[str, Tensor], file: Path
) -> None:
    method = assisted(family, file, "symmetric")[1]
    sda, with_it = inner(method), run(merged(family, helper))
    assert sda.assisted is None
    assert relative(run(sda.base), with_it) < 1e-5  # pyright: ignore
    assert relative(run(sda.student), with_it) < 1e-5  # pyright: ignore
    assert torch.equal(run(method.exported()), run(family.backbone))  # pyright: ignore


@pytest.mark.parametrize("share", ["asymmetric", "symmetric"])
@torch.no_grad()
def test_what_is_exported_is_the_base_and_the_adapter_alone(
    family: ZImage, file: Path, share: Share
) -> None:
    method = assisted(family, file, share)[1]
    trained(method)
    exported = method.exported()
    assert isinstance(exported, ZImageBackbone)
    state = adapter_state(inner(method).ema.average)
    assert state.keys() == adapter_state(exported).keys() and len(state) == 2 * 48
    right = run(merged(family, state))
    assert relative(run(exported), right) < 1e-5
    assert relative(run(merge(exported)), right) < 1e-5
    assert relative(right, run(family.backbone)) > 0.01  # pyright: ignore


@pytest.mark.parametrize("share", ["asymmetric", "symmetric"])
def test_gradient_reaches_the_trained_adapter_and_nothing_else(
    family: ZImage, file: Path, share: Share
) -> None:
    method = assisted(family, file, share)[1]
    trained(method)
    sda, given = inner(method), batch(family)
    loss, _ = sda.loss(given, Rng(0, 0, "student", given.ids), level=1)
    loss.backward()
    own = {id(p) for a in adapters_of(sda.student).values() for p in a.parameters()}
    trees = [sda.student, sda.base, sda.teacher, sda.ema.average]
    if sda.assisted is not None:
        trees += [sda.assisted.student, sda.assisted.base]
    moved = {id(p) for t in trees for p in t.parameters() if p.grad is not None}
    assert moved == own and len(own) == 2 * 48
    assert all(p.grad.abs().max() > 0 for p in sda.student.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (ladd_shapes(), "method ladd takes none; leave assistant at none"),
        (replace(sda_shapes(), adapter=None), "for a student that is an adapter"),
    ],
)
def test_who_takes_no_assistant(experiment: Experiment, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(experiment, assistant="a.safetensors")


def test_levels_between_two_steps_belong_to_the_step_that_leads_there(family: ZImage) -> None:
    base = family.backbone
    zero, one = base, attached(base, lokr_state(in_blocks(family)))
    tree: Backbone = Gated([one, zero], (1.0, 0.5, 0.0))
    x, text = noise()[:1], cond(base)[:1]  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for sigma, model in ((1.0, one), (0.6, one), (0.5, zero), (0.1, zero)):
            at = torch.full((1,), sigma)
            assert torch.equal(tree(x, at, text), model(x, at, text))
