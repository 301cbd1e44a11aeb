"""How a directory of files becomes a checkpoint, or leaves no trace."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fewstep.disk import sync
from fewstep.runs import RunError, write_atomic

MANIFEST, STATE = "manifest.json", "state.json"
CHUNK = 1 << 22


@contextmanager
def writing(folder: Path, step: int) -> Iterator[Path]:
    """The temporary directory of a checkpoint. What goes wrong in between takes it away, and is
    told as a RunError."""
    final = folder / name_of(step)
    temporary = temporary_of(final, os.getpid())
    try:
        yield temporary
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(not_saved(final, reason(error))) from error


def temporary_of(final: Path, owner: int) -> Path:
    """Where a checkpoint is written by the process `owner` and those that follow it."""
    return final.with_name(f".{final.name}.{owner}.tmp")


def not_saved(final: Path, why: str) -> str:
    return (
        f"could not save the checkpoint {final}: {why}; older checkpoints are as they were, free "
        "some space and run the same command again"
    )


def begin(temporary: Path) -> None:
    """Make the directory; what others have left unfinished goes."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    for left_over in temporary.parent.glob(".step_*.tmp"):
        shutil.rmtree(left_over)
    for left_over in temporary.parent.glob(".latest.*.tmp"):
        left_over.unlink()
    temporary.mkdir()


def commit(
    temporary: Path, final: Path, state: Mapping[str, Any], manifest: Mapping[str, Any], keep: int
) -> Path:
    """Make `final` of a directory whose files of tensors are written and synced, and whose
    `manifest` names them all; then drop all but the newest `keep`."""
    (temporary / STATE).write_text(json.dumps(state, indent=1))
    entries = dict(sorted({**manifest, STATE: entry(temporary / STATE)}.items()))
    (temporary / MANIFEST).write_text(json.dumps(entries, indent=1))
    for path in (temporary / STATE, temporary / MANIFEST, temporary):
        sync(path)
    if final.exists():  # a broken one of the same step, which the run has come past again
        shutil.rmtree(final)
    temporary.rename(final)
    sync(final.parent)
    write_atomic(final.parent / "latest", f"{final.name}\n".encode())
    rotate(final.parent, final, keep)
    return final


def name_of(step: int) -> str:
    return f"step_{step:08d}"


def step_of(path: Path) -> int:
    """The inverse."""
    return int(path.name.removeprefix("step_"))


def step_inside(path: Path) -> int:
    """Of a checkpoint whatever it is called, as the best is called."""
    return int(json.loads((path / STATE).read_bytes())["step"])


def crc(file: Path) -> int:
    """crc32 of a file: safetensors has no checksum, and loads flipped bits in silence."""
    value = 0
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def entry(file: Path) -> dict[str, int]:
    return {"size": file.stat().st_size, "crc32": crc(file)}


def by_age(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step_*") if p.is_dir()), reverse=True)


def rotate(folder: Path, final: Path, keep: int) -> None:
    """Keep `final` and before it the newest that are whole, as far as their sizes tell.

    What is newer than `final` was found broken when the run began, and the run has gone back.
    """
    whole = 0
    for path in by_age(folder):
        if whole >= keep or path.name > final.name:
            shutil.rmtree(path, ignore_errors=True)
        elif sizes_fit(path):
            whole += 1


def sizes_fit(path: Path) -> bool:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        return all((path / n).stat().st_size == e["size"] for n, e in manifest.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
