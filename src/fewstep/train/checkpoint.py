"""Checkpoints: everything a resumed run needs, bit for bit, in safetensors and JSON.

checkpoints/
  latest                          the name of the newest one, for people and scripts
  step_00000100/
    state.json                    step, counters, optimizer facts
    module.<name>.safetensors     one for each of `method.modules`, without what is frozen in it
    optim.<phase>.safetensors     one for each optimizer
    manifest.json                 size and crc32 of every file above
  best/                           what a retention gauge keeps (`train.best`)

A checkpoint is written into a temporary directory, synced, and renamed: under its final name it is
complete. What does not match its manifest is named in a warning and never used.

An adapter's frozen base is not written: it lies in the model that the run began with, and a
checkpoint of gigabytes would hold it twice, for the student and for its average.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.runs import RunError, write_atomic
from fewstep.train.optim import Optim

FORMAT = 2
MANIFEST = "manifest.json"
CHUNK = 1 << 22


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
    final = folder / name_of(progress.step)
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".step_*.tmp"):
            shutil.rmtree(left_over)
        for left_over in folder.glob(".latest.*.tmp"):
            left_over.unlink()
        temporary.mkdir()
        facts: dict[str, Any] = {}
        still = frozen_of(modules)
        for name, module in modules.items():
            _write(temporary / f"module.{name}.safetensors", moving(module, still))
        for name, optim in optims.items():
            tensors, facts[name] = optim.state()
            _write(temporary / f"optim.{name}.safetensors", tensors)
        state = {"format": FORMAT, **vars(progress), "optims": facts}
        (temporary / "state.json").write_text(json.dumps(state, indent=1))
        manifest = {file.name: _entry(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        if final.exists():  # a broken one of the same step, which the run has come past again
            shutil.rmtree(final)
        temporary.rename(final)
        sync(folder)
        write_atomic(folder / "latest", f"{final.name}\n".encode())
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(
            f"could not save the checkpoint {final}: {_reason(error)}; older checkpoints are as "
            "they were, free some space and run the same command again"
        ) from error
    _rotate(folder, final, keep)
    return final


def name_of(step: int) -> str:
    return f"step_{step:08d}"


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest complete checkpoint, every byte checked; broken ones are named through `warn`.

    None where no checkpoint was ever finished; RunError where there are some and none is whole.
    """
    for left_over in sorted(folder.glob(".step_*.tmp")):
        warn(f"{left_over} is a checkpoint that was never finished; it is ignored")
    for path in _by_age(folder):
        if (why := flaw(path)) is None:
            return path
        warn(f"the checkpoint {path} is ignored: {why}")
    if broken := _by_age(folder):
        raise RunError(
            f"none of the {len(broken)} checkpoints in {folder} is whole, so the run cannot go on; "
            "bring one back, or choose another run directory to start anew"
        )
    return None


def flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if every file is what its manifest says."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if (written := json.loads((path / "state.json").read_bytes())["format"]) != FORMAT:
            return f"it has format {written}, and this version reads {FORMAT}"
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
    """Fill modules and optimizers in place; RunError if they are not those that were saved."""
    try:
        state = json.loads((path / "state.json").read_bytes())
        for kind, given in (("module", modules), ("optim", optims)):
            saved = {f.name.split(".", 1)[1][: -len(".safetensors")]
                     for f in path.glob(f"{kind}.*.safetensors")}  # fmt: skip
            if odd := sorted(saved ^ given.keys()):
                where = "the checkpoint" if odd[0] in saved else "the method"
                raise ValueError(f"the {kind} {odd[0]!r} is only in {where}")
        still = frozen_of(modules)
        for name, module in modules.items():
            saved = load_file(path / f"module.{name}.safetensors")
            if odd := sorted(saved.keys() ^ moving(module, still).keys()):
                where = "the checkpoint" if odd[0] in saved else "the method"
                raise ValueError(f"the tensor {odd[0]!r} of {name} is only in {where}")
            module.load_state_dict(saved, strict=False)
        for name, optim in optims.items():
            optim.load(load_file(path / f"optim.{name}.safetensors"), state["optims"][name])
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"the checkpoint {path} does not belong to this experiment: {error}; "
            "resume with the configuration that wrote it, or choose another run directory"
        ) from error
    return Progress(
        step=state["step"],
        skipped=state["skipped"],
        skipped_in_a_row=state["skipped_in_a_row"],
    )


def frozen_of(modules: Mapping[str, nn.Module]) -> set[int]:
    """Identities of the parameters that are frozen in a module of which others train. The average
    of such a module has the very same ones."""
    trained = [m for m in modules.values() if any(p.requires_grad for p in m.parameters())]
    return {id(p) for module in trained for p in module.parameters() if not p.requires_grad}


def moving(module: nn.Module, still: Container[int]) -> dict[str, Tensor]:
    """The state of a module without the parameters in `still`."""
    left_out = {name for name, p in module.named_parameters() if id(p) in still}
    return {name: t for name, t in module.state_dict().items() if name not in left_out}


def crc(file: Path) -> int:
    """crc32 of a file: safetensors has no checksum, and loads flipped bits in silence."""
    value = 0
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _entry(file: Path) -> dict[str, int]:
    return {"size": file.stat().st_size, "crc32": crc(file)}


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


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _by_age(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step_*") if p.is_dir()), reverse=True)


def _rotate(folder: Path, final: Path, keep: int) -> None:
    """Keep `final` and before it the newest that are whole, as far as their sizes tell.

    What is newer than `final` was found broken when the run began, and the run has gone back.
    """
    whole = 0
    for path in _by_age(folder):
        if whole >= keep or path.name > final.name:
            shutil.rmtree(path, ignore_errors=True)
        elif _sizes_fit(path):
            whole += 1


def _sizes_fit(path: Path) -> bool:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        return all((path / n).stat().st_size == e["size"] for n, e in manifest.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
