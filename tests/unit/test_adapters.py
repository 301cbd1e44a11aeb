"""What an adapter computes in a real model: nothing at first, and what peft computes after that."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import get_args

import pytest
import torch
from peft import LoKrConfig
from tests.adapted import (
    ALL,
    GROUPS,
    KINDS,
    LOKR,
    TEXT,
    cond,
    gradients,
    new_base,
    noise,
    relative,
    run,
    scramble,
    student_of,
)
from torch import Tensor

from fewstep.families.zimage import ZImageBackbone
from fewstep.families.zimage_fused import FusedZImage
from fewstep.nets.adapters import (
    Adapted,
    AdapterConfig,
    TargetName,
    adapt,
    adapter_state,
    adapters_of,
    merged,
    set_strength,
)
from fewstep.nets.share import share


@pytest.fixture(scope="module")
def base() -> ZImageBackbone:
    return new_base()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_is_the_identity(base: ZImageBackbone, kind: str) -> None:
    """Bit for bit; and the tree that it was put into is the only one with it."""
    before, student = run(base), share(base)
    random = torch.random.get_rng_state()
    assert set(adapt(student, KINDS[kind], seed=0)) == ALL
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.equal(run(student), before)
    scramble(student)
    assert relative(run(student), before) > 0.02
    assert torch.equal(run(base), before)
    assert not any(isinstance(m, Adapted) for m in base.modules())
    ours = {id(p) for p in student.parameters()}
    assert all(id(p) in ours for p in base.parameters())
    trained = [p for p in student.parameters() if p.requires_grad]
    assert len(trained) == len(adapter_state(student)) and len(ours) - len(trained) == len(
        list(base.parameters())
    )


def test_groups_of_targets(base: ZImageBackbone) -> None:
    groups: tuple[TargetName, ...] = get_args(TargetName)
    assert set(groups) == {*GROUPS, "text"} == ZImageBackbone.targets.keys()
    for group in groups:
        found = adapt(share(base), replace(LOKR, targets=(group,)), seed=0)
        in_blocks = {f"layers.{i}.{name}" for i in range(6) for name in GROUPS.get(group, ())}
        assert set(found) == (TEXT if group == "text" else in_blocks)


def test_seed_and_name_decide_the_weights(base: ZImageBackbone) -> None:
    def drawn(cfg: AdapterConfig, seed: int) -> dict[str, Tensor]:
        student = share(base)
        adapt(student, cfg, seed)
        return {k: v for k, v in adapter_state(student).items() if k.endswith("w1")}

    full, other = drawn(LOKR, 0), drawn(LOKR, 1)
    part = drawn(replace(LOKR, targets=("modulation",)), 0)
    assert all(torch.equal(full[key], value) for key, value in part.items())
    assert not any(torch.equal(full[key], value) for key, value in other.items())
    assert len({tuple(value.flatten().tolist()) for value in full.values()}) == len(full)


@pytest.mark.parametrize(("factor", "rank"), [(4, None), (-1, None), (4, 15), (4, 32)])
def test_peft_computes_the_same(base: ZImageBackbone, factor: int, rank: int | None) -> None:
    """The same tensors, by the same names, in peft's LoKr on the real transformer."""
    student = student_of(base, AdapterConfig(factor=factor, rank=rank))
    other = copy.deepcopy(base)
    r = rank or 10**6  # with which peft keeps every second factor whole
    other.transformer.add_adapter(
        LoKrConfig(r=r, alpha=r, decompose_factor=factor, target_modules=list(adapters_of(student)))
    )
    theirs = {n: p for n, p in other.transformer.named_parameters() if "lokr" in n}
    ours = adapter_state(student)
    assert theirs.keys() == {f"{key}.default" for key in ours}
    assert len({key.rpartition(".")[2] for key in ours}) == (2 if rank is None else 4)
    with torch.no_grad():
        for key, value in ours.items():
            theirs[f"{key}.default"].copy_(value)
    assert relative(run(other), run(base)) > 0.02
    assert relative(run(student), run(other)) < 1e-5


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_backbone_reads_adapted_layers(
    base: ZImageBackbone, kind: str, strength: float
) -> None:
    """Its values and its gradients to the adapter are those of the plain backbone."""
    student = student_of(base, KINDS[kind])
    set_strength(student, strength)
    fused = FusedZImage(student.transformer, torch.float32, compiled=False)
    assert fused.fits(noise(), cond(base))
    one, other = run(student), run(fused)
    assert relative(other, one) < 1e-5
    right, found = gradients(student, one.square().sum()), gradients(fused, other.square().sum())
    assert right.keys() == found.keys() and len(right) == len(adapter_state(student))
    assert all(relative(found[name], right[name]) < 1e-4 for name in right)


def test_strength_scales_the_weight(base: ZImageBackbone) -> None:
    student = student_of(base)
    layer = student.transformer.get_submodule("layers.1.feed_forward.w2")
    assert isinstance(layer, Adapted)
    plain = base.transformer.get_submodule("layers.1.feed_forward.w2").weight
    assert isinstance(plain, Tensor)
    for strength in (0.0, 0.5, -1.5):
        set_strength(student, strength)
        assert torch.equal(layer.weight, plain + strength * layer.adapter.delta())
    set_strength(student, 0.0)
    assert torch.equal(run(student), run(base))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_unmerged(base: ZImageBackbone, kind: str, dtype: torch.dtype) -> None:
    rounded = copy.deepcopy(base).to(dtype)
    student = student_of(rounded, KINDS[kind])
    set_strength(student, 0.7)
    plain = merged(student)
    state, old = plain.state_dict(), rounded.state_dict()
    assert state.keys() == old.keys()
    for key, value in state.items():
        name = key.removeprefix("transformer.").removesuffix(".weight")
        if name in ALL and key.endswith("weight"):
            delta = adapters_of(student)[name].delta().detach()
            exact = old[key].float() + 0.7 * delta
            assert value.dtype == dtype and torch.equal(value, exact.to(dtype))
        else:
            assert value.data_ptr() == old[key].data_ptr()
    assert not any(p.requires_grad for p in plain.parameters())
    # in bfloat16 the merged weights are rounded once more in each of six blocks
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert relative(run(plain), run(student)) < tolerance
    assert len(adapters_of(student)) == len(ALL)


def test_a_base_in_bfloat16_has_a_float32_adapter(base: ZImageBackbone) -> None:
    rounded = copy.deepcopy(base).bfloat16()
    student = student_of(rounded)
    assert student.transformer.dtype == torch.bfloat16
    assert {v.dtype for v in adapter_state(student).values()} == {torch.float32}
    out = run(student)
    exact = run(student_of(copy.deepcopy(rounded).float()))
    assert out.dtype == torch.float32 and relative(out, exact) < 0.03
    grads = gradients(student, out.square().sum())
    assert {g.dtype for g in grads.values()} == {torch.float32}
