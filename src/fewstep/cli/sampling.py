"""`fewstep sample`: pictures of prompts x seeds, of a model alone or under stacked adapters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console

from fewstep.cli.verbs import SampleRequest
from fewstep.errors import UserError
from fewstep.evaluate.gallery import RECORD
from fewstep.evaluate.generate import GenerationSpec, fingerprint, generate
from fewstep.evaluate.grids import Column, to_bytes, write_grid
from fewstep.experiment.models import load_family
from fewstep.experiment.trees import file_of, sha256, stacked, state_of
from fewstep.families.adapters import Strength, at_steps, recorded
from fewstep.families.text import unknown_words
from fewstep.families.zimage import ZImage
from fewstep.runs import replacing, write_atomic
from fewstep.train.progress import ProgressLine


def sample(request: SampleRequest, console: Console) -> int:
    """PNG files, one grid of them all, and what they were made with."""
    for name in ("steps", "batch"):
        if getattr(request, name) < 1:
            raise UserError(f"--{name} must be >= 1, got {getattr(request, name)}")
    check_folder(request.out)
    adapters = adapters_of(request)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    family = load_family(request.model, device, request.dtype)
    warn_of_unknown_words(family, request.prompts)
    states = [state_of(family, path) for path in adapters]
    backbone = stacked(family, states, list(adapters.values()), request.steps)
    side = family.pipeline.vae.config.sample_size
    try:
        spec = GenerationSpec(
            model=request.model, fingerprint=fingerprint(family.backbone),
            prompts=request.prompts, seeds=request.seeds, sigmas=family.sigmas(request.steps),
            sampler=request.sampler or family.sampler, guidance=request.guidance,
            height=side if request.height is None else request.height,
            width=side if request.width is None else request.width,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from None
    grid = ", ".join(f"{s:.4g}" for s in spec.sigmas)
    console.print(
        f"{spec.total} pictures of {spec.height} x {spec.width}, {spec.calls} model calls each, "
        f"at sigma {grid}"
    )
    with telling("pictures", console) as told:
        images = generate(family, backbone, spec, batch_size=request.batch, progress=told)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {request.out}: {error.strerror}") from None
    # Before the first picture: one that is killed would leave new pictures under the old record.
    (request.out / RECORD).unlink(missing_ok=True)
    for i, pixels in enumerate(to_bytes(images)):
        row, seed = divmod(i, len(spec.seeds))
        with replacing(request.out / f"{row:04d}_seed{spec.seeds[seed]}.png") as temporary:
            Image.fromarray(pixels).save(temporary, format="png")
    write_grid(
        request.out / "grid.png", [Column(request.model, images)], spec.prompts,
        seeds=len(spec.seeds),
    )  # fmt: skip
    record = spec.to_json() | {"prompts": list(spec.prompts), "dtype": request.dtype}
    if adapters:
        record["adapters"] = [
            {"file": str(path), "sha256": sha256(path), "strength": recorded(strength)}
            for path, strength in adapters.items()
        ]
    write_atomic(request.out / RECORD, json.dumps(record, indent=1).encode() + b"\n")
    console.print(f"wrote {request.out}")
    return 0


def adapters_of(request: SampleRequest) -> dict[Path, Strength]:
    """The files in the order of their stack, each with its strength; UserError for what is none."""
    strengths = request.strengths or (1.0,) * len(request.adapter)
    if len(strengths) != len(request.adapter):
        raise UserError(
            "--adapter and --strengths must be as many, got "
            f"{len(request.adapter)} and {len(strengths)}; a strength is a number, or one for each "
            "step as in 1,1,0,0"
        )
    found: dict[Path, Strength] = {}
    for file, strength in zip(request.adapter, strengths, strict=True):
        path = file_of(file, "--adapter")
        if path in found:
            raise UserError(f"--adapter names {file!r} twice; add up its strengths instead")
        at_steps(strength, request.steps)
        found[path] = strength
    return found


def warn_of_unknown_words(family: ZImage, prompts: Sequence[str]) -> None:
    """On stderr."""
    for prompt in prompts:
        if unknown := unknown_words(family.pipeline.tokenizer, prompt):
            words = ", ".join(map(repr, unknown))
            print(f"warning: the model has no word {words} (prompt {prompt!r})", file=sys.stderr)


def check_folder(path: Path) -> None:
    """UserError where a folder cannot be made or written."""
    try:
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
    except OSError as error:
        raise UserError(f"--out {path} cannot be reached: {error.strerror}") from None
    if not there.is_dir():
        raise UserError(f"--out {path} must be a folder, but {there} is a file; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--out {path} cannot be written: {there} is not writable; choose another")


class telling:
    """A progress line for work that says (done, total)."""

    def __init__(self, what: str, console: Console) -> None:
        self.what, self.console = what, console
        self.line: ProgressLine | None = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self.tell

    def tell(self, done: int, total: int) -> None:
        if self.line is None:
            self.line = ProgressLine(self.what, 0, total, self.console).__enter__()
        self.line.update(done)

    def __exit__(self, *_: object) -> None:
        if self.line is not None:
            self.line.__exit__(None, None, None)
