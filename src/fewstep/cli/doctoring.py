"""`fewstep doctor`: what is wrong with a pipeline, a model or data, before anybody trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from fewstep.cli.examining import RECORD, examined
from fewstep.cli.opening import read_config
from fewstep.data.buckets import buckets
from fewstep.data.folder import FolderConfig, read_folder
from fewstep.doctor.base import Answer, Check, Finding, doubtful, examine, good
from fewstep.doctor.checks import CHECKS, MODEL_CHECKS
from fewstep.doctor.data import FOLDER_CHECKS, PROMPT_CHECKS, Prompts
from fewstep.doctor.patient import Model, Patient
from fewstep.doctor.run import differences
from fewstep.errors import UserError
from fewstep.experiment.builder import build
from fewstep.experiment.codec import to_dict
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family, world_named
from fewstep.runs import check_new, user_path
from fewstep.train.progress import ProgressLines

PROMPTS = (
    "a red apple on a wooden table", "a portrait of an old man in the rain",
    "a city street at night with neon signs", "a white cat asleep on a blue sofa",
)  # fmt: skip
"""What a model without a world is asked to draw."""


@dataclass(frozen=True, kw_only=True)
class DoctorRequest:
    """What `doctor` takes beside the fields of the experiment."""

    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    out: Path | None = None
    """Where doctor.json, doctor.html and pictures go; none is runs/doctor/NAME."""
    full: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also what takes minutes: pictures at several guidances, few steps against many, and whether
    a teacher can draw what it is shown."""
    against: Path | None = None
    """A benchmark, one prompt a line, that must not be trained on."""
    validated: Path | None = None
    """The config.yaml of a run that went well, to be told what is different."""


@dataclass(frozen=True, kw_only=True)
class DoctorHelp(DoctorRequest):
    """The same with every field of an experiment."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class DoctorModelRequest:
    """What `doctor` takes beside a model directory or hub id."""

    out: Path | None = None
    """Where doctor.json, doctor.html and pictures go; none is runs/doctor/NAME."""
    full: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also what takes minutes: pictures at several guidances, few steps against many."""
    prompts: tuple[str, ...] = ()
    """What it is asked to draw; none is a few of everything, or of its world."""
    steps: int = 4
    """That it is to be sampled with, once it is fast."""
    guidance: float = 2.0
    """Of its pictures: 1 for a model that was distilled. One whose scheduler draws noise between
    steps is taken for such."""
    size: int | None = None
    """Pixels of a side; none is 1024, and 64 for Shapes."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """None is bfloat16 on a GPU and float32 elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, kw_only=True)
class DoctorDataRequest:
    """What `doctor` takes beside a file of prompts or a folder of pictures."""

    out: Path | None = None
    """Where doctor.json and doctor.html go; none is runs/doctor/NAME."""
    against: Path | None = None
    """A benchmark, one prompt a line, that must not be among prompts."""
    size: int = 1024
    """Side of the square whose area pictures are trained at."""


def doctor(
    request: DoctorRequest, experiment: Experiment, label: str, command: str, console: Console
) -> int:
    """Of an experiment. Print a line for each check, and write a record and a page; 1 if one has
    failed."""
    out = folder_of(request.out, label)
    against = lines_of(request.against)
    validated = None if request.validated is None else read_config(request.validated)
    with ProgressLines(console) as told:
        built = build(experiment, out, told)
    built.rest(experiment)
    more = [] if validated is None else [compared(experiment, validated)]
    for note in built.notes:
        console.print(f"note: {note}")
    patient = Patient(experiment, built, against=against)
    return examined(patient, CHECKS, out, command, console, full=request.full, more=more)


def of_model(request: DoctorModelRequest, name: str, command: str, console: Console) -> int:
    """The same of a model alone."""
    out = folder_of(request.out, Path(name).name)
    gpu = torch.cuda.is_available()
    device = ("cuda" if gpu else "cpu") if request.device == "auto" else request.device
    dtype = request.dtype or ("bfloat16" if device == "cuda" else "float32")
    family = load_family(name, torch.device(device), dtype)
    world = world_named("shapes") if name == "shapes" else None
    prompts = request.prompts or (PROMPTS if world is None else world.prompts("val", 8))
    side = request.size or (1024 if world is None else 64)
    model = Model(family, world, prompts, (side, side), few=request.steps,
                  guidance=request.guidance)  # fmt: skip
    return examined(model, MODEL_CHECKS, out, command, console, full=request.full)


def of_data(request: DoctorDataRequest, path: Path, command: str, console: Console) -> int:
    """The same of a file of prompts, or a folder of pictures."""
    out = folder_of(request.out, path.stem)
    if path.is_dir():
        try:
            folder = read_folder(FolderConfig(path=str(path), size=request.size),
                                 buckets(request.size, UNIT))  # fmt: skip
        except ValueError as error:
            raise UserError(f"--{error}") from None
        return examined(folder, FOLDER_CHECKS, out, command, console)
    prompts = Prompts([path], lines_of(request.against))
    _ = prompts.rows  # what cannot be read at all is the user's mistake, and no finding
    return examined(prompts, PROMPT_CHECKS, out, command, console)


UNIT = 16
"""Sides of pictures are multiples of it, for every family that there is."""


def folder_of(out: Path | None, label: str) -> Path:
    """Where to write; UserError for what is not the doctor's."""
    found = out or Path("runs/doctor") / label
    if (found / "config.yaml").exists():
        raise UserError(f"{found} is a run; choose another --out for what the doctor writes")
    if not (found / RECORD).exists():
        check_new(found)
    return found


def lines_of(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = user_path(str(path)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--against: {path} cannot be read: {error}") from None
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UserError(f"--against: {path} has no prompt")
    return found


def compared(experiment: Experiment, validated: Experiment) -> Answer:
    """What differs from a run that went well."""

    def look(_: object) -> Finding:
        found = differences(to_dict(experiment), to_dict(validated))
        if not found:
            return good("every field that decides a result is that of the validated run")
        shown = "; ".join(f"{name} {old} -> {new}" for name, (old, new) in found.items())
        return doubtful(
            f"{len(found)} fields differ from the validated run: {shown}",
            "what was validated is not what will run",
            fields={name: list(both) for name, both in found.items()},
        )  # fmt: skip

    [answer] = examine(
        None, [Check(name="validated", asks="Is it what went well before?", look=look)]
    )
    return answer
