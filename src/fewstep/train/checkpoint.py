"""Checkpoints: everything a resumed run needs, bit for bit, in safetensors and JSON.

checkpoints/
  latest                          the name of the newest one, for people and scripts
  step_00000100/
    state.json                    step, counters, optimizer facts
    module.<name>.safetensors     one for each of `method.modules`, without what is frozen in it
    optim.<phase>.safetensors     one for each optimizer
    manifest.json                 size and crc32 of every file above
  best/, healthy_00000100/        what is set aside (`train.aside`)

A checkpoint is written into a temporary directory, synced, and renamed: under its final name it is
complete. What does not match its manifest is named in a warning and never used. Of sharded weights
each process writes its part, and `train.saving` brings them together; `load` reads either
(`train.parts`).

An adapter's frozen base is not written: it lies in the model that the run began with, and a
checkpoint of gigabytes would hold it twice, for the student and for its average.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from fewstep.disk import sync
from fewstep.runs import RunError
from fewstep.train.commit import (
    MANIFEST,
    STATE,
    begin,
    by_age,
    commit,
    crc,
    entry,
    name_of,
    writing,
)
from fewstep.train.optim import Optim
from fewstep.train.parts import Stored, files_by_name

FORMAT, IN_PARTS = 2, 3
"""Whole files are what versions of before wrote and read; they refuse those in parts."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: steps done, and steps among them that were skipped as not finite."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


def save(
    folder: Path,
    progress: Progress,
    modules: Mapping[str, nn.Module],
    optims: Mapping[str, Optim],
    *,
    keep: int = 2,
) -> Path:
    """Write a checkpoint and drop all but the newest `keep`.

    Raises RunError when it cannot be written (a full disk); older checkpoints are then untouched.
    """
    with writing(folder, progress.step) as temporary:
        begin(temporary)
        facts: dict[str, Any] = {}
        still = frozen_of(modules)
        for name, module in modules.items():
            _write(temporary / f"module.{name}.safetensors", moving(module, still))
        for name, optim in optims.items():
            tensors, facts[name] = optim.state()
            _write(temporary / f"optim.{name}.safetensors", tensors)
        manifest = {file.name: entry(file) for file in sorted(temporary.iterdir())}
        for path in temporary.iterdir():
            sync(path)
        state = {"format": FORMAT, **vars(progress), "optims": facts}
        return commit(temporary, folder / name_of(progress.step), state, manifest, keep)


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest complete checkpoint, every byte checked; broken ones are named through `warn`.

    None where no checkpoint was ever finished; RunError where there are some and none is whole.
    """
    for left_over in sorted(folder.glob(".step_*.tmp")):
        warn(f"{left_over} is a checkpoint that was never finished; it is ignored")
    for path in by_age(folder):
        if (why := flaw(path)) is None:
            return path
        warn(f"the checkpoint {path} is ignored: {why}")
    if broken := by_age(folder):
        raise RunError(
            f"none of the {len(broken)} checkpoints in {folder} is whole, so the run cannot go on; "
            "bring one back, or choose another run directory to start anew"
        )
    return None


def flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if every file is what its manifest says."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if (written := json.loads((path / STATE).read_bytes())["format"]) not in (FORMAT, IN_PARTS):
            return f"it has format {written}, and this version reads {FORMAT} and {IN_PARTS}"
        for name, expected in manifest.items():
            if Path(name).name != name:
                return f"its manifest lists {name!r}, which is no name of a file in it"
            file = path / name
            if (size := file.stat().st_size) != expected["size"]:
                return f"{name} has {size} bytes instead of {expected['size']}"
            if crc(file) != expected["crc32"]:
                return f"{name} is corrupted (its crc32 differs)"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"it cannot be read ({error})"
    return None


def load(path: Path, modules: Mapping[str, nn.Module], optims: Mapping[str, Optim]) -> Progress:
    """Fill modules and optimizers in place, each process what it holds of them; RunError if they
    are not those that were saved."""
    with belonging(path):
        state = json.loads((path / STATE).read_bytes())
        files = {kind: files_by_name(path, kind) for kind in ("module", "optim")}
        for kind, given in (("module", modules), ("optim", optims)):
            if odd := sorted(files[kind].keys() ^ given.keys()):
                where = "the checkpoint" if odd[0] in files[kind] else "the method"
                raise ValueError(f"the {kind} {odd[0]!r} is only in {where}")
        load_modules(path, modules, modules.keys())
        for name, optim in optims.items():
            stored = Stored(files["optim"][name])
            tensors = {key: optim.blank(key) for key in sorted(stored.names())}
            for key, tensor in tensors.items():
                stored.fill(key, tensor)
            optim.load(tensors, state["optims"][name])
    return Progress(
        step=state["step"],
        skipped=state["skipped"],
        skipped_in_a_row=state["skipped_in_a_row"],
    )


def load_modules(path: Path, modules: Mapping[str, nn.Module], names: Collection[str]) -> None:
    """Fill those of a method's modules that are named, and leave the others as they are."""
    with belonging(path):
        files, still = files_by_name(path, "module"), frozen_of(modules)
        for name in names:
            stored, wanted = Stored(files[name]), moving(modules[name], still)
            if odd := sorted(stored.names() ^ wanted.keys()):
                where = "the checkpoint" if odd[0] in stored.names() else "the method"
                raise ValueError(f"the tensor {odd[0]!r} of {name} is only in {where}")
            for key, tensor in wanted.items():
                stored.fill(key, tensor)


@contextmanager
def belonging(path: Path) -> Iterator[None]:
    """What does not fit is told as a RunError."""
    try:
        yield
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"the checkpoint {path} does not belong to this experiment: {error}; "
            "resume with the configuration that wrote it, or choose another run directory"
        ) from error


def frozen_of(modules: Mapping[str, nn.Module]) -> set[int]:
    """Identities of the parameters that are frozen in a module of which others train. The average
    of such a module has the very same ones."""
    trained = [m for m in modules.values() if any(p.requires_grad for p in m.parameters())]
    return {id(p) for module in trained for p in module.parameters() if not p.requires_grad}


def moving(module: nn.Module, still: Container[int]) -> dict[str, Tensor]:
    """The state of a module without the parameters in `still`."""
    left_out = {name for name, p in module.named_parameters() if id(p) in still}
    return {name: t for name, t in module.state_dict().items() if name not in left_out}


def _write(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """safetensors refuses tensors that share memory (tied weights), so those are copied."""
    seen: set[int] = set()
    ready: dict[str, Tensor] = {}
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        shares = place in seen or tensor.untyped_storage().nbytes() != tensor.nbytes
        ready[name] = tensor.clone(memory_format=torch.contiguous_format) if shares else tensor
        seen.add(place)
    save_file(ready, file)
