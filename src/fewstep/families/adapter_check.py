"""An adapter file is checked by its readers before it gets its name, and the verdict lies beside.

Two readers, each with the file and the base model alone:

diffusers  a fresh pipeline loads the file; modules are counted, and dW of each layer and the
           velocity are compared with those of the adapter that was trained
ComfyUI    `comfy.py` patches its fused weights; every changed weight is compared, one at a time
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from fewstep.errors import UserError
from fewstep.families import comfy
from fewstep.families.adapter_files import AdapterCard, as_written, open_file, write
from fewstep.families.adapter_state import (
    Factors,
    Kind,
    State,
    by_layer,
    common_factor,
    delta,
    kind_of,
    linear_layers,
    shape_of,
)
from fewstep.families.base import Backbone, Cond
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.machine import environment
from fewstep.runs import RunError, write_atomic

NAME = "check"
ROUNDING = 0.02
"""Of the largest change: what bfloat16 factors (half a digit in 256) may cost in the velocity."""
NOISE = {torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Of the largest velocity: what two orders of the same sums may differ by, by the model's dtype."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the readers of a file made of it. Errors are the largest, relative to the largest dW of
    the layer, or, for the velocity, to the largest velocity of the base."""

    file: str
    sha256: str
    kind: Kind
    factor: int | None
    modules: int
    parameters: int
    diffusers_modules: int
    diffusers_weight_error: float
    velocity_change: float
    """By which the adapter moves the velocity."""
    velocity_error: float
    """Between the adapter that was trained and what diffusers reads: its rounding is in it."""
    comfyui_modules: int
    comfyui_weight_error: float
    dtype: str
    """Of the base model in this check."""
    versions: Mapping[str, str]


def save(path: Path, state: State, card: AdapterCard, base: ZImage, adapted: Backbone) -> Verdict:
    """Write the adapter and `<file>.verdict.json`, both or neither.

    base     the model without adapters
    adapted  the model with the adapter that `state` was taken from

    UserError where a reader does not get what was trained (an old file of that name is left as it
    was), ValueError for what `write` refuses, RunError where the disk is full.
    """
    folder = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        written = folder / path.name
        write(written, state, card)
        verdict = check(written, state, base, adapted)
        text = json.dumps(asdict(verdict), indent=2, allow_nan=False) + "\n"
        write_atomic(verdict_path(written), text.encode())
        written.replace(path)
        verdict_path(written).replace(verdict_path(path))
        return verdict
    except RunError:
        raise
    except OSError as error:
        raise RunError(f"could not write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def verdict_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.verdict.json")


def check(path: Path, state: State, base: ZImage, adapted: Backbone) -> Verdict:
    """What two readers make of the file; UserError where it is not `state` on `base`."""
    pipeline = fresh(base)
    layers = linear_layers(base.pipeline.transformer)
    wanted = by_layer(as_written(state))
    for layer, factors in wanted.items():
        if shape_of(factors) != layers.get(layer):
            raise UserError(
                f"the adapter changes {layer} by a matrix of {shape_of(factors)}, which is "
                f"{layers.get(layer, 'no layer')} in the base model"
            )
    tensors, _ = open_file(path)
    count, weight_error = by_diffusers(pipeline, path, wanted)
    places, comfy_error = by_comfyui(base, tensors, wanted)
    dtype = base.pipeline.transformer.dtype
    plain, ours, theirs = (
        velocity(model, base)
        for model in (base.backbone.plain(), adapted.plain(), ZImageBackbone(pipeline.transformer))
    )
    size = plain.abs().max().item()
    verdict = Verdict(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        kind=kind_of(state),
        factor=common_factor(state) if kind_of(state) == "lokr" else None,
        modules=len(wanted),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        diffusers_modules=count,
        diffusers_weight_error=weight_error,
        velocity_change=(ours - plain).abs().max().item() / size,
        velocity_error=(theirs - ours).abs().max().item() / size,
        comfyui_modules=places,
        comfyui_weight_error=comfy_error,
        dtype=str(dtype).removeprefix("torch."),
        versions=environment()["versions"],
    )
    if wrong := faults(verdict, NOISE[dtype], torch.finfo(dtype).eps):
        what = f"does not read back as it was trained ({'; '.join(wrong)})"
        raise UserError(f"the adapter {path.name} {what}; please report this")
    return verdict


def faults(verdict: Verdict, noise: float, eps: float) -> list[str]:
    """What is wrong with a file; [] is as meant. `not x <= limit` because a NaN is wrong too."""
    v, wrong = verdict, list[str]()
    for reader, count in (("diffusers", v.diffusers_modules), ("ComfyUI", v.comfyui_modules)):
        if count != v.modules:
            wrong.append(f"{reader} adapts {count} modules of {v.modules}")
    # diffusers multiplies the factors in the model's dtype, ComfyUI in float32 as we do
    if not v.diffusers_weight_error <= 2 * eps:
        wrong.append(f"diffusers' weights are {v.diffusers_weight_error:.2g} off")
    if v.comfyui_weight_error != 0:
        wrong.append(f"ComfyUI's weights are {v.comfyui_weight_error:.2g} off")
    if not v.velocity_error <= ROUNDING * v.velocity_change + noise:
        wrong.append(
            f"the velocity is {v.velocity_error:.2g} off where the adapter moves it by "
            f"{v.velocity_change:.2g}"
        )
    return wrong


def fresh(base: ZImage) -> Any:
    """A pipeline of its own over the weights of `base`, at no memory for them.

    Its parameters are new objects on the same storage: loading an adapter sets requires_grad.
    """
    old: Any = base.pipeline
    if any(isinstance(module, BaseTunerLayer) for module in old.transformer.modules()):
        raise ValueError("the base model of a check must have no adapters")
    memo: dict[int, object] = {}
    for tensor in chain(old.transformer.parameters(), old.transformer.buffers()):
        own = tensor.detach()
        memo[id(tensor)] = (
            nn.Parameter(own, requires_grad=False) if isinstance(tensor, nn.Parameter) else own
        )
    return ZImagePipeline(**{**old.components, "transformer": copy.deepcopy(old.transformer, memo)})


def by_diffusers(pipeline: Any, path: Path, wanted: Mapping[str, Factors]) -> tuple[int, float]:
    """Load the file: the number of modules that it adapts, and the largest error of their dW."""
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=NAME)
    except Exception as error:  # whatever diffusers and peft make of a file that they do not take
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"diffusers does not load the adapter {path.name}: {reason}") from error
    if lost := [name for name, p in pipeline.transformer.named_parameters() if p.is_meta]:
        raise UserError(f"diffusers finds no numbers for {lost[0]} in the adapter {path.name}")
    count, worst = 0, 0.0
    for layer, module in pipeline.transformer.named_modules():
        if isinstance(module, BaseTunerLayer):
            count += 1
            if layer in wanted:
                got: Any = module
                read = got.get_delta_weight(NAME).detach().float().cpu()
                worst = max(worst, relative(read, delta(wanted[layer])))
    return count, worst


def by_comfyui(
    base: ZImage, tensors: Mapping[str, Tensor], wanted: Mapping[str, Factors]
) -> tuple[int, float]:
    """Patch ComfyUI's weights one by one: the number of layers that the file reaches, and the
    largest error of base + dW. One weight is in memory at a time."""
    config = base.pipeline.transformer.config
    names = comfy.key_map(config)
    if lost := comfy.not_loaded(tensors, names):
        raise UserError(f"ComfyUI would drop {len(lost)} keys, the first is {lost[0]}")
    count, worst = len(comfy.reached(tensors, names)), 0.0
    for weight, members in comfy.members(config).items():
        if not wanted.keys() & set(members):
            continue
        parts = [base.pipeline.transformer.get_submodule(m).weight.detach() for m in members]
        whole = torch.cat(parts).float().cpu()
        result = comfy.patched(weight, whole, tensors, names)
        rows = [len(part) for part in parts]
        for layer, before, after in zip(
            members, whole.split(rows), result.split(rows), strict=True
        ):
            dw = delta(wanted[layer]) if layer in wanted else torch.zeros(())
            meant = before + dw
            if not torch.equal(after, meant):  # the rule, and one pass over a large matrix
                worst = max(worst, relative(after, meant, scale=dw))
    return count, worst


def relative(read: Tensor, meant: Tensor, scale: Tensor | None = None) -> float:
    """The largest difference relative to the largest of `scale` (`meant` where there is none)."""
    largest = (meant if scale is None else scale).abs().max().item()
    error = (read - meant).abs().max().item()
    return error / largest if largest else float(error > 0)


@torch.no_grad()
def velocity(model: Backbone, family: ZImage) -> Tensor:
    """At fixed inputs: noise at two levels and eight random tokens each; on the CPU."""
    draws = torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    x = torch.randn(2, *family.latent_shape(64, 64), generator=draws).to(device)
    cond = Cond(tuple(torch.randn(2, 8, model.cond_width, generator=draws))).to(device)
    return model(x, torch.tensor([0.9, 0.3], device=device), cond).cpu()
