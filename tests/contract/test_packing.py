"""A model with packed blocks is the model with rounded weights: in every gradient of a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from tests.contract.test_recompute import experiment
from tests.tiny import tiny_zimage
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.experiment.builder import prepare
from fewstep.experiment.models import make_world
from fewstep.experiment.outline import outline
from fewstep.experiment.packing import pack_blocks
from fewstep.experiment.rehearsal import Lengths, rehearse
from fewstep.families.recompute import recompute
from fewstep.families.zimage import ZImage
from fewstep.nets.adapters import AdapterConfig
from fewstep.nets.packed import PackedLinear, PackedName, from_packed, to_packed
from fewstep.recipes import RECIPES
from fewstep.rng import Rng
from fewstep.train.step import accumulate

KINDS: tuple[PackedName, ...] = get_args(PackedName)
LORA = AdapterConfig(kind="lora", rank=2)


def packed_layers(family: ZImage) -> dict[str, PackedLinear]:
    modules = family.pipeline.transformer.named_modules()
    return {name: m for name, m in modules if isinstance(m, PackedLinear)}


def round_weights(family: ZImage, kind: PackedName) -> None:
    """What packing makes of them, in the place of what they were."""
    other = tiny_zimage()
    pack_blocks(other, kind)
    with torch.no_grad():
        for name in packed_layers(other):
            layer = family.pipeline.transformer.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            codes, scales = to_packed(layer.weight, kind)
            rows, columns = layer.weight.shape
            layer.weight.copy_(from_packed(codes, scales, kind, (rows, columns), torch.float32))


def slopes(
    recipe: str, adapter: AdapterConfig | None, kind: PackedName, *, packed: bool, again: bool
) -> dict[str, Tensor]:
    """Gradients of every phase of a step, of adapters that are not at their start."""
    family = tiny_zimage()
    teacher = tiny_zimage(1) if recipe == "sda_shapes" else family
    if again:
        recompute(family, teacher)
    cfg = replace(experiment(recipe, adapter), frozen=kind if packed else "dtype")
    if packed and adapter is not None:  # as `build` does
        for each in {id(f): f for f in (family, teacher)}.values():
            pack_blocks(each, kind)
    method, optims = prepare(cfg, family, teacher, make_world(cfg), torch.device("cpu"))
    if not packed:
        for each in {id(f): f for f in (family, teacher)}.values():
            round_weights(each, kind)
    with torch.no_grad():
        draws = torch.Generator().manual_seed(0)
        for optim in optims.values():
            for p in optim.parameters.values():
                p.add_(0.02 * torch.randn(p.shape, generator=draws))
    batch = Batch(
        ids=("a", "b"), x0=Rng(0, 0, "data", ("a", "b")).randn(8, 16, 16),
        cond=family.encode_text(["a red circle", "two blue squares"]),
    )  # fmt: skip
    found: dict[str, Tensor] = {}
    for phase in method.phases(1):
        optim = optims[phase.name]
        inputs = list(optim.parameters.values())
        accumulate(phase, [(batch, 1.0)], inputs, scale=1.0, seed=0, step=1, device="cpu")
        found |= {
            f"{phase.name}: {name}": p.grad.clone()
            for name, p in optim.parameters.items() if p.grad is not None
        }  # fmt: skip
        optim.zero_grad()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("recipe", "adapter"),
    [("ladd_shapes", None), ("ladd_shapes", LORA), ("sda_shapes", AdapterConfig(factor=2))],
)
@pytest.mark.parametrize("again", (False, True))
def test_gradients_are_those_of_rounded_weights(
    recipe: str, adapter: AdapterConfig | None, kind: PackedName, *, again: bool
) -> None:
    """A student of whole weights is not rounded: it began before its teacher was packed."""
    found = slopes(recipe, adapter, kind, packed=True, again=again)
    expected = slopes(recipe, adapter, kind, packed=False, again=again)
    assert found.keys() == expected.keys() and len(found) > 10
    for name, slope in expected.items():
        size = float(slope.abs().max())
        assert float((found[name] - slope).abs().max()) <= 1e-5 * max(size, 1e-3), name
    whole = slopes(recipe, adapter, "int8", packed=True, again=again)
    assert kind == "int8" or any(not torch.equal(found[n], whole[n]) for n in found)


def test_attention_and_feed_forward_of_every_block_are_packed_and_nothing_else() -> None:
    family = tiny_zimage()
    before, whole = family.fingerprint(), family.pipeline.transformer.state_dict()
    pack_blocks(family, "int8")
    found = packed_layers(family)
    blocks = len(family.pipeline.transformer.layers) + 2 * len(
        family.pipeline.transformer.noise_refiner
    )
    assert len(found) == 7 * blocks
    assert {name.split(".")[2] for name in found} == {"attention", "feed_forward"}
    for name, value in family.pipeline.transformer.state_dict().items():
        assert name not in whole or torch.equal(value, whole[name])
    assert family.fingerprint() != before and family.identity() == before
    pack_blocks(family, "nf4")  # once is enough
    assert packed_layers(family) == found


def test_a_packed_model_is_known_by_what_it_was_and_how_it_was_packed() -> None:
    """Not by scales, which another device rounds in another way."""
    each = {}
    for kind in KINDS:
        family = tiny_zimage()
        pack_blocks(family, kind)
        each[kind] = family.fingerprint()
        for layer in packed_layers(family).values():
            layer.scales.data.mul_(1 + 1e-7)
        assert family.fingerprint() == each[kind]
        assert family.fingerprint(family.backbone) != each[kind]
    other = tiny_zimage(1)
    pack_blocks(other, "int8")
    assert len({*each.values(), other.fingerprint()}) == len(KINDS) + 1


def test_what_would_copy_or_ignore_packed_layers_is_refused() -> None:
    dmd2 = replace(RECIPES["dmd2_shapes"](), engine="plain")
    replace(dmd2, frozen="int8")
    with pytest.raises(ValueError, match="frozen is int8, but the critic of method dmd2 begins"):
        replace(dmd2, frozen="int8", adapter=LORA)
    sft = replace(RECIPES["sft_shapes"](), engine="plain", adapter=None)
    with pytest.raises(ValueError, match="frozen is int8, but method sft trains all weights"):
        replace(sft, frozen="int8")


def test_a_plan_counts_weights_and_not_codes(model: Path) -> None:
    found = replace(RECIPES["ladd_shapes_demo"](), engine="plain", adapter=LORA)
    found = replace(found, method=replace(found.method, layers=(0, 1)))
    counts = []
    for kind in ("dtype", "nf4"):
        family = outline(model)
        plan = rehearse(replace(found, frozen=kind), family, family, Lengths(cond=20))
        counts.append(plan.parameters)
    assert counts[0] == counts[1]
