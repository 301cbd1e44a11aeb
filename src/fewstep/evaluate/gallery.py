"""A folder of pictures, one PNG for each prompt and seed, that can be made in several sittings.

samples.json        the spec that decides the pictures, with every prompt
0003_seed1.png      the picture of the fourth prompt for seed 1

Pictures are measured as these files show them, with eight bits a channel. A folder from elsewhere
serves too: its samples.json needs "prompts" and "seeds".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec, Progress, Task, silent, stream
from fewstep.evaluate.grids import to_bytes
from fewstep.evaluate.results import Cost
from fewstep.families.base import Backbone, Family
from fewstep.runs import replacing, write_atomic
from fewstep.shapes import Pixels
from fewstep.worlds.base import World

RECORD = "samples.json"
NAMES = ("model",)
"""Fields of the record that decide no picture."""
MODES = ("RGB", "L")
"""What Pillow calls eight bits a channel without transparency; others would lose something."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures of prompts x seeds, read when they are wanted."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    read: Callable[[int, int], Pixels]
    """read(start, stop): every seed of prompts[start], then of the next; (n, 3, h, w), as PNG
    files would show them."""

    @property
    def total(self) -> int:
        return len(self.prompts) * len(self.seeds)


def eight_bit(images: Pixels) -> Pixels:
    """What is left of images in a PNG file."""
    return from_bytes(to_bytes(images))


def from_bytes(pixels: np.ndarray) -> Pixels:
    """(n, 3, h, w) in [0, 1] of (n, h, w, 3) uint8."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def true_pictures(world: World, prompts: Sequence[str], seeds: Sequence[int]) -> Pictures:
    """Those of the world, drawn when they are wanted."""

    def read(start: int, stop: int) -> Pixels:
        asked = [p for p in prompts[start:stop] for _ in seeds]
        return eight_bit(world.truth(asked, [*seeds] * (stop - start)))

    return Pictures(prompts=tuple(prompts), seeds=tuple(seeds), read=read)


def file_of(task: Task) -> str:
    row, seed = task
    return f"{row:04d}_seed{seed}.png"


def draw_gallery(
    folder: Path, family: Family, spec: GenerationSpec, facts: Mapping[str, Any], *,
    batch_size: int = 32, first: Backbone | None = None, progress: Progress = silent,
) -> Cost:  # fmt: skip
    """Draw what the folder lacks. `facts` decide pictures beside the spec (dtype, engine); `first`
    is that of `generate.stream`.

    A picture that is lost is drawn in the batch that it was drawn in first: coarse arithmetic
    rounds by the batch. UserError, and nothing drawn, if the folder holds pictures of another spec.
    """
    family.latent_shape(spec.height, spec.width)  # a size that cannot be leaves no folder behind
    claim_folder(folder, spec.to_json() | {"prompts": list(spec.prompts), **facts})
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # or it would be that of the models before
    tasks = spec.tasks
    missing = {task for task in tasks if not (folder / file_of(task)).exists()}
    batches = [tasks[i : i + batch_size] for i in range(0, len(tasks), batch_size)]
    wanted = [task for batch in batches if not missing.isdisjoint(batch) for task in batch]
    start, done = time.perf_counter(), spec.total - len(missing)
    if done:
        progress(done, spec.total)
    drawn = iter(wanted)
    batches_drawn = stream(
        family, family.backbone, spec, batch_size=batch_size, first=first, tasks=wanted
    )
    for images in batches_drawn:
        for pixels, task in zip(to_bytes(images), drawn, strict=False):
            if task in missing:
                with replacing(folder / file_of(task)) as temporary:
                    Image.fromarray(pixels).save(temporary, format="png")
                done += 1
        progress(done, spec.total)
    return Cost(
        seconds=time.perf_counter() - start, images=len(wanted),
        model_calls=spec.calls * len(wanted), peak_memory_mb=peak_memory(),
    )  # fmt: skip


def peak_memory() -> float | None:
    """Of the GPU, in MB."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None


def claim_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record into a new folder, or hold it against the one that is there."""
    path = folder / RECORD
    if path.exists():
        found = read_record(folder)
        other = [
            f"{key}: {found.get(key, 'nothing')!r} there, {record.get(key, 'nothing')!r} here"
            for key in sorted(found.keys() | record.keys())
            if key not in (*NAMES, "prompts") and found.get(key) != record.get(key)
        ]
        if not other and found["prompts"] != record["prompts"]:
            other = ["prompts"]
        if other:
            raise UserError(
                f"{folder} holds pictures made in another way ({'; '.join(other)}); choose another "
                "folder or delete this one"
            )
        return
    if folder.is_dir() and any(folder.glob("*.png")):
        raise UserError(
            f"{folder} holds pictures but no {RECORD}, so nobody knows what they are; choose "
            "another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    write_atomic(path, json.dumps(record, indent=1).encode() + b"\n")


def read_record(folder: Path) -> dict[str, Any]:
    """samples.json of a folder of pictures; UserError if it cannot be understood."""
    path = folder / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is no folder of pictures: it has no {RECORD}") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); make the pictures again") from None
    for key, kind in (("prompts", str), ("seeds", int)):
        values = found.get(key) if isinstance(found, dict) else None
        if not isinstance(values, list) or not values or not all(type(v) is kind for v in values):
            raise UserError(f"{path} must hold a list {key!r} of {kind.__name__}, got {values!r}")
        if len(set(values)) != len(values):
            raise UserError(f"{path} names one of its {key} twice; name each once")
    return found


def open_gallery(folder: Path) -> Pictures:
    """Pictures of a folder. UserError for one that is missing, damaged or of another size."""
    record = read_record(folder)
    prompts, seeds = tuple(record["prompts"]), tuple(record["seeds"])
    tasks = [(row, seed) for row in range(len(prompts)) for seed in seeds]
    lost = [file_of(task) for task in tasks if not (folder / file_of(task)).is_file()]
    if lost:
        raise UserError(
            f"{folder} lacks {len(lost)} of {len(tasks)} pictures, the first is {lost[0]}; run the "
            "command that makes them again"
        )
    first = read_picture(folder / file_of(tasks[0])).shape

    def read(start: int, stop: int) -> Pixels:
        found: list[np.ndarray] = []
        for task in tasks[start * len(seeds) : stop * len(seeds)]:
            pixels = read_picture(folder / file_of(task))
            if pixels.shape != first:
                raise UserError(
                    f"{folder / file_of(task)} is {pixels.shape[1]} x {pixels.shape[0]} pixels, "
                    f"the first picture {first[1]} x {first[0]}; pictures of one size are compared"
                )
            found.append(pixels)
        return from_bytes(np.stack(found))

    return Pictures(prompts=prompts, seeds=seeds, read=read)


def read_picture(path: Path) -> np.ndarray:
    """(h, w, 3) uint8; UserError for a damaged file or one that is not eight bits a channel."""
    try:
        with Image.open(path) as image:
            image.verify()  # its checksums, which reading passes over
        with Image.open(path) as image:
            mode, pixels = image.mode, np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a broken file
        raise UserError(
            f"{path} is not a whole picture ({error}); delete it and run again"
        ) from None
    if mode not in MODES:
        raise UserError(
            f"{path} has the mode {mode}; save it with eight bits a channel, without transparency"
        )
    return pixels
