"""Trees over the weights of one model: the student, and adapter files as frozen layers.

`attached` puts one file into a second tree over the same weights; on its own result it stacks. What
trains is then put on top by `nets.adapters.adapt`. Nothing is switched on or off: the model without
the file is the first tree.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import assert_never

import torch
from torch import nn

from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.families.adapter_formats import read
from fewstep.families.adapter_state import Factors, State, by_layer, linear_layers, split_of
from fewstep.families.adapters import Gated, Strength, at_steps
from fewstep.families.base import Backbone, Cond
from fewstep.families.zimage import ZImage, transformer_of
from fewstep.methods.base import AnyPhase, Method
from fewstep.methods.sda import SDA, Assisted, SDAConfig
from fewstep.nets.adapters import Adapted, adapt
from fewstep.nets.lokr import LoKr, LoRA
from fewstep.nets.share import share
from fewstep.runs import user_path
from fewstep.train.adam import WeightsName


def student_of(backbone: Backbone, experiment: Experiment) -> Backbone:
    """What trains: a copy, or adapters in a second tree over the frozen weights."""
    if experiment.adapter is None:
        return trainable(backbone, experiment.optim.student.weights)
    student = share(backbone)
    adapt(student, experiment.adapter, experiment.seed)
    return student


def trainable(backbone: Backbone, weights: WeightsName) -> Backbone:
    """A copy of which every weight trains: in float32, or, as the upper half of one, in bfloat16,
    to which a model in float32 is rounded once."""
    dtype = torch.float32 if weights == "float32" else torch.bfloat16
    return copy.deepcopy(backbone).to(dtype).requires_grad_(True)


def make_sda(
    experiment: Experiment, cfg: SDAConfig, family: ZImage, teacher: ZImage, uncond: Cond
) -> Method:
    """SDA, with the assistant in the trees that `assistant_share` names."""
    base = family.backbone
    student = student_of(base, experiment)
    method = partial(
        SDA, cfg, teacher=teacher.backbone, sampler=experiment.sampling.sampler, uncond=uncond,
        decode=family.decode_with_gradients,
    )  # fmt: skip
    if experiment.assistant is None:
        return method(student=student, base=base)
    helped = attached(base, state_of(family, file_of(experiment.assistant, "assistant")))
    on_top = student_of(helped, experiment)
    match experiment.assistant_share:
        case "asymmetric":
            assisted = Assisted.over(student, on_top, helped)
            return method(student=student, base=base, assisted=assisted)
        case "symmetric":
            return Bare(method(student=on_top, base=helped), student, base)
        case _:
            assert_never(experiment.assistant_share)


def file_of(text: str, key: str) -> Path:
    """The file that `key` names; UserError where there is none."""
    path = user_path(text)
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(f"{key} {text!r} must be a .safetensors file that exists")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state_of(family: ZImage, path: Path) -> State:
    """The adapter in a file, in our keys; UserError unless all of it fits the model and does
    something. A model without weights will do."""
    state, _ = read(path, linear_layers(family.pipeline.transformer))
    return state


def attached(backbone: Backbone, state: State) -> Backbone:
    """A second tree over the weights of `backbone` with the adapter in it, frozen."""
    tree = share(backbone)
    transformer = transformer_of(tree)
    levels = [m.level for m in transformer.modules() if isinstance(m, Adapted)]
    level = max(levels, default=-1) + 1
    for name, factors in by_layer(state).items():
        layer = transformer.get_submodule(name)
        assert isinstance(layer, nn.Linear | Adapted)  # `state_of` has found it among the layers
        adapter = frozen(factors, next(layer.parameters()).device)
        transformer.set_submodule(name, Adapted(layer, adapter, name=name, level=level))
    return tree


def frozen(factors: Factors, device: torch.device) -> LoKr | LoRA:
    """A module of these factors, which does not train."""
    draws = torch.Generator()  # of numbers that are replaced
    if "lora_A" in factors:
        (rank, inner), out = factors["lora_A"].shape, len(factors["lora_B"])
        adapter = LoRA(out, inner, rank=rank, generator=draws, device=device)
    else:
        outs, ins = split_of(factors)
        rank = factors["lokr_w2_a"].shape[1] if "lokr_w2_a" in factors else None
        adapter = LoKr(outs, ins, rank=rank, generator=draws, device=device)
    with torch.no_grad():
        for name, value in adapter.named_parameters():
            value.copy_(factors[name])
    return adapter.requires_grad_(False)


def stacked(
    family: ZImage, states: Sequence[State], strengths: Sequence[Strength], steps: int
) -> Backbone:
    """The model with adapters stacked in their order, each at its strength, for a sampler of
    `steps` steps on the model's own grid. Each distinct set of strengths is a tree, all over the
    same weights."""
    if not states:
        return family.backbone
    whole = family.backbone
    for state in states:
        whole = attached(whole, state)
    each = list(zip(*(at_steps(strength, steps) for strength in strengths), strict=True))
    trees = {numbers: at_strengths(whole, numbers) for numbers in dict.fromkeys(each)}
    if len(trees) == 1:
        return trees[each[0]]
    return Gated([trees[numbers] for numbers in each], family.sigmas(steps))


def at_strengths(stack: Backbone, strengths: Sequence[float]) -> Backbone:
    """A tree over the same weights with a strength for each adapter of the stack."""
    tree = share(stack)
    for layer in tree.modules():
        if isinstance(layer, Adapted):
            layer.strength = strengths[layer.level]
    return tree


class Bare:
    """A method whose trees all hold an assistant, and whose export does not.

    adapted  the model without the assistant under an adapter of its own, which gives way to that
             of what `method` exports
    base     the model without either
    """

    def __init__(self, method: Method, adapted: Backbone, base: Backbone) -> None:
        exported = method.exported()
        assert isinstance(exported, Backbone)
        self.method = method
        self.modules: Mapping[str, nn.Module] = method.modules
        self.tree = Assisted.over(exported, adapted, base).student

    def phases(self, step: int) -> Iterator[AnyPhase]:
        return self.method.phases(step)

    def exported(self) -> nn.Module:
        return self.tree
