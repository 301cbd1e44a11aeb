"""Adapters in trees of their own: trained, stacked, averaged, kept, at full size, refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from diffusers import ZImageTransformer2DModel
from tests.adapted import (
    ALL,
    KINDS,
    LOKR,
    SIGMA,
    cond,
    gradients,
    layer_names,
    new_base,
    noise,
    relative,
    run,
    scramble,
    student_of,
)
from tests.toy import ToyBackbone
from torch import Tensor, nn
from torch.testing import assert_close

from fewstep.families.zimage import ZImageBackbone
from fewstep.families.zimage_fused import FusedZImage
from fewstep.nets.adapters import (
    Adapted,
    AdapterConfig,
    adapt,
    adapter_state,
    adapters_of,
    load_adapter_state,
    merged,
    set_strength,
)
from fewstep.nets.ema import Ema
from fewstep.nets.lokr import LoKr
from fewstep.nets.share import share


@pytest.fixture(scope="module")
def base() -> ZImageBackbone:
    return new_base()


def test_training_moves_the_adapter_alone(base: ZImageBackbone) -> None:
    before = {key: value.clone() for key, value in base.state_dict().items()}
    student = student_of(base)
    start = {key: value.clone() for key, value in adapter_state(student).items()}
    adam = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        adam.zero_grad()
        run(student).square().mean().backward()
        adam.step()
    assert all(p.grad is None for p in base.parameters())
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    assert not any(torch.equal(v, start[key]) for key, v in adapter_state(student).items())


@pytest.mark.fault(13)
def test_student_and_base_in_one_checkpointed_graph(base: ZImageBackbone) -> None:
    """A toggled adapter would be recomputed in its last state; two trees cannot be."""

    def one_graph(base: ZImageBackbone, checkpointed: bool) -> dict[str, Tensor]:
        student = student_of(base)
        for tree in (student, base):
            if checkpointed:
                tree.transformer.enable_gradient_checkpointing()
            tree.train()
        v = run(student)
        through = base(noise() - SIGMA[:, None, None, None] * v, SIGMA, cond(base))
        again = student(noise(3), SIGMA, cond(base))
        return gradients(student, (v * again).sum() + through.square().sum())

    plain, checked = one_graph(share(base), False), one_graph(share(base), True)
    assert plain.keys() == checked.keys() and len(plain) == 2 * len(ALL)
    for name, slope in plain.items():
        assert_close(checked[name], slope, rtol=1e-5, atol=1e-6 * float(slope.abs().max()))


def test_a_trained_adapter_on_a_frozen_assistant(base: ZImageBackbone) -> None:
    """The assistant reaches further than the adapter on it, and is not taken for a part of it."""
    assistant = student_of(base, KINDS["lora"], seed=5)
    assistant.requires_grad_(False)
    alone = run(assistant)
    student = share(assistant)
    names = adapt(student, replace(LOKR, targets=("attention",)), seed=0)
    assert torch.equal(run(student), alone)
    scramble(student)
    assert set(adapters_of(student)) == set(names) == {n for n in ALL if ".attention." in n}
    assert all(isinstance(a, LoKr) for a in adapters_of(student).values())
    assert relative(run(student), alone) > 0.01
    assert torch.equal(run(assistant), alone)
    out = run(student)
    assert len(gradients(student, out.sum())) == 2 * len(names)
    fused = FusedZImage(student.transformer, torch.float32, compiled=False)
    assert relative(run(fused), out) < 1e-5
    plain = merged(student)
    assert plain.state_dict().keys() == base.state_dict().keys()
    assert relative(run(plain), out) < 1e-5
    set_strength(student, 0.0)
    assert torch.equal(run(student), alone)


def test_state_goes_round(base: ZImageBackbone) -> None:
    student, other = student_of(base, seed=2), student_of(base, seed=3)
    state = {key: value.clone() for key, value in adapter_state(student).items()}
    assert state.keys() == {f"{name}.lokr_{w}" for name in ALL for w in ("w1", "w2")}
    assert not torch.equal(run(other), run(student))
    load_adapter_state(other, state)
    assert torch.equal(run(other), run(student))
    key = "layers.3.attention.to_q.lokr_w1"
    less = {k: v for k, v in state.items() if k != key}
    cases = (
        (less, f"'{key}' is in the adapter only"),
        (state | {"layers.9.lokr_w1": state[key]}, "'layers.9.lokr_w1' is in the state only"),
        (state | {key: state[key][:2]}, rf"'{key}' has the shape \(2, 4\) in the state"),
    )
    kept = run(other)
    for wrong, message in cases:
        doubled = {name: 2 * value for name, value in wrong.items()}
        with pytest.raises(ValueError, match=message):
            load_adapter_state(other, doubled)
    assert torch.equal(run(other), kept)


def test_the_ema_of_an_adapted_tree_shadows_the_adapter_alone(base: ZImageBackbone) -> None:
    student = student_of(base)
    ema = Ema(student, decay=0.75)
    shadow = ema.average
    assert isinstance(shadow, ZImageBackbone)
    shared = {id(p) for p in shadow.parameters()} & {id(p) for p in student.parameters()}
    assert shared == {id(p) for p in base.parameters()}
    start = {key: value.clone() for key, value in adapter_state(student).items()}
    scramble(student, seed=9)
    ema.update(student)
    for key, value in adapter_state(shadow).items():
        assert_close(value, 0.75 * start[key] + 0.25 * adapter_state(student)[key])
    assert relative(run(merged(shadow)), run(shadow)) < 1e-5


@pytest.mark.parametrize(("factor", "count"), [(4, 339_152_640), (8, 84_802_560), (16, 21_258_240)])
def test_parameters_at_the_size_of_z_image(factor: int, count: int) -> None:
    with torch.device("meta"):
        backbone = ZImageBackbone(ZImageTransformer2DModel()).requires_grad_(False)
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(6.15e9, rel=1e-3)
    names = adapt(backbone, AdapterConfig(factor=factor), seed=0)
    assert set(names) == layer_names(30)
    state = adapter_state(backbone)
    assert sum(value.numel() for value in state.values()) == count
    assert state["layers.29.feed_forward.w1.lokr_w2"].shape == (10240 // factor, 3840 // factor)
    assert state["layers.0.adaLN_modulation.0.lokr_w2"].shape == (15360 // factor, 256 // factor)


class Odd(ToyBackbone):
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"attention": ("blocks.*.1", "enter")}


class Ending(ToyBackbone):
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"attention": ("nter", "*.leave")}


class Prime(ToyBackbone):
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"attention": ("enter", "leave")}


def test_what_cannot_be_adapted_is_left_as_it_was(base: ZImageBackbone) -> None:
    attention = replace(LOKR, targets=("attention",))
    with pytest.raises(ValueError, match=r"'attention', which matches no layer .* declares \[\]"):
        adapt(ToyBackbone(), LOKR, seed=0)
    with pytest.raises(ValueError, match=r"'feed_forward', .* declares \['attention'\]"):
        adapt(Prime(), replace(LOKR, targets=("attention", "feed_forward")), seed=0)
    with pytest.raises(ValueError, match="'attention', which matches no layer"):
        adapt(Ending(), attention, seed=0)  # a name is whole
    with pytest.raises(ValueError, match=r"blocks\.0\.1 is no Linear, but a GELU"):
        adapt(Odd(), attention, seed=0)
    prime = Prime(channels=11, width=7, patch=1)
    with pytest.raises(ValueError, match="factor 4 cannot split enter, 11 -> 7; take another"):
        adapt(prime, attention, seed=0)
    assert not any(isinstance(m, Adapted) for m in prime.modules())
    with pytest.raises(ValueError, match="holds no adapter"):
        set_strength(base, 1.0)
    with pytest.raises(ValueError, match="two adapted models"):
        adapters_of(nn.ModuleList([student_of(base), student_of(base)]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factor": 1}, "factor must be -1 .* or at least 2, got 1"),
        ({"factor": 0}, "got 0"),
        ({"rank": 0}, "rank must be >= 1, or none for full rank, got 0"),
        ({"kind": "lora"}, 'kind "lora" needs a rank'),
        ({"targets": ()}, r"targets must name distinct groups of layers, got \(\)"),
        ({"targets": ("attention", "attention")}, "distinct"),
    ],
)
def test_refused_configs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdapterConfig(**fields)
