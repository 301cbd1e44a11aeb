"""The end of a run: the student as an ordinary diffusers directory, and its adapter as a file where
an adapter was trained; both are read back before they count."""

from __future__ import annotations

import copy
import shutil
from itertools import chain
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fewstep.errors import UserError
from fewstep.experiment.card import card, public_name
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family
from fewstep.families import adapter_check
from fewstep.families.adapter_check import Verdict
from fewstep.families.adapter_files import AdapterCard
from fewstep.families.base import Backbone, Cond, Family
from fewstep.families.zimage import ZImage
from fewstep.methods.base import Method
from fewstep.nets.adapters import adapter_state, merged
from fewstep.runs import RunError

SOUND = "the checkpoints are sound"


class Trained(Protocol):
    """What an export takes of a built experiment, or of a checkpoint."""

    @property
    def family(self) -> ZImage: ...
    @property
    def teacher(self) -> ZImage: ...
    @property
    def method(self) -> Method: ...


def export(
    built: Trained, experiment: Experiment, directory: Path, step: int | None = None
) -> Path:
    """Write `built.method.exported()` around its family, load it back, compare the two.

    step  after which the weights were taken, for who reads the card; None is the last

    The directory appears whole or not at all. Raises RunError if what is read is not what was
    trained, or if it cannot be written.
    """
    trained = built.method.exported()
    assert isinstance(trained, Backbone)
    student = on_cpu(merged(trained), getattr(torch, experiment.dtype))
    sampler = experiment.sampling.sampler
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        built.family.save(temporary, student, sampler)
        text = card(experiment, built.family, step)
        (temporary / "README.md").write_text(text, encoding="utf-8")
        if wrong := differences(temporary, experiment, built.family, student):
            raise RunError(
                f"the model written to {directory} does not read back as it was trained "
                f"({'; '.join(wrong)}); {SOUND}, please report this"
            )
        temporary.rename(directory)
    except RunError:
        raise
    except (OSError, SafetensorError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise RunError(
            f"could not write the model {directory}: {why}; {SOUND}, free some "
            "space and run the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def export_adapter(
    built: Trained, experiment: Experiment, path: Path, recipe: str, step: int
) -> Verdict:
    """Write the adapter of `built.method.exported()`, checked by its readers; see
    `fewstep.families.adapter_check`. UserError where one of them gets something else."""
    trained = built.method.exported()
    assert isinstance(trained, Backbone)
    card = AdapterCard(
        method=experiment.method.name,
        base_model=public_name(experiment.model),
        base_hash=built.family.fingerprint(),
        teacher_hash=built.teacher.fingerprint(),
        recipe=recipe,
        step=step,
        licence="that of the base model",
    )
    return adapter_check.save(path, adapter_state(trained), card, built.family, trained)


def on_cpu(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """The backbone on the CPU in `dtype`; tensors that are so already are the very same."""
    memo: dict[int, object] = {}
    for tensor in chain(backbone.parameters(), backbone.buffers()):
        moved = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(moved, requires_grad=False) if is_parameter else moved
    return copy.deepcopy(backbone, memo).eval()


def differences(
    directory: Path, experiment: Experiment, family: Family, student: Backbone
) -> list[str]:
    """What a reader of `directory` gets that is not `family` around `student`; [] is as meant."""
    try:
        read = load_family(str(directory), torch.device("cpu"), experiment.dtype)
    except UserError as error:
        return [str(error)]
    wrong: list[str] = []
    if read.fingerprint() != family.fingerprint(student):
        wrong.append("other weights")
    if read.sigmas(4) != family.sigmas(4):
        wrong.append("other noise levels")
    if read.sampler != experiment.sampling.sampler:
        wrong.append("another sampler")
    # weights alone do not say how they are used; the same code differs in the order of sums only
    shape = family.latent_shape(64, 64)
    ours, theirs = velocity(student.plain(), shape), velocity(read.backbone, shape)
    if not torch.allclose(ours, theirs, rtol=0, atol=1e-3 * ours.abs().max().item()):
        wrong.append("another velocity")
    return wrong


@torch.no_grad()
def velocity(backbone: Backbone, shape: tuple[int, int, int]) -> Tensor:
    """At a fixed input: noise, the level 0.7 and a condition of eight random tokens."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1, *shape, generator=draws)
    cond = Cond((torch.randn(8, backbone.cond_width, generator=draws),))
    return backbone(x, torch.tensor([0.7]), cond)
