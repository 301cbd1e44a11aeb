"""What each verb does, once its options are read. Every function returns an exit code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console

from fewstep.cli.evaluation import evaluate_run
from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec, fingerprint, generate
from fewstep.evaluate.grids import Column, to_bytes, write_grid
from fewstep.experiment.builder import build, choose_device, load_family, model_path
from fewstep.experiment.codec import difference, from_yaml, to_yaml
from fewstep.experiment.config import Experiment
from fewstep.experiment.export import export
from fewstep.report.page import write_report
from fewstep.runs import Run, write_atomic
from fewstep.train.loop import train as run_loop
from fewstep.train.progress import ProgressLine

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Pictures of prompts x seeds, from any model directory."""

    model: str
    """A diffusers directory or hub id; "shapes" is the model in the package."""
    prompts: tuple[str, ...]
    steps: int = 4
    """Model calls (twice as many with guidance), on the model's own grid."""
    guidance: float = 1.0
    """w; 1 is none."""
    seeds: tuple[int, ...] = (0,)
    height: int = 64
    width: int = 64
    batch: int = 32
    out: Path = Path("pictures")


def describe(experiment: Experiment, out: Path, console: Console) -> int:
    """--dry-run: the resolved configuration, the files checked, no weights loaded."""
    console.print(to_yaml(experiment), markup=False, end="")
    path = Path(model_path(experiment.model))
    if path.exists() and not (path / "model_index.json").is_file():
        raise UserError(f"{path} is not a diffusers model directory: it has no model_index.json")
    if not path.exists() and (path.is_absolute() or str(path).count("/") != 1):
        raise UserError(f"model {experiment.model!r} does not exist")
    file = experiment.data.prompts_file
    if file is not None and not Path(file).expanduser().is_file():
        raise UserError(f"the prompts file {file} does not exist")
    if (out / "config.yaml").is_file():
        check_same(out, experiment)
        console.print(f"# would go on with the run {out}", markup=False)
    else:
        console.print(f"# would start a run in {out}", markup=False)
    return 0


def read_experiment(directory: Path) -> Experiment:
    path = directory / "config.yaml"
    return from_yaml(path.read_text(encoding="utf-8"), str(path))


def check_same(directory: Path, experiment: Experiment) -> None:
    """UserError if the run in this directory was started with another configuration."""
    if lines := difference(read_experiment(directory), experiment):
        raise UserError(
            f"the run {directory} was started with another configuration ({'; '.join(lines)}); "
            "choose another --out, or change the options back"
        )


def open_run(directory: Path, experiment: Experiment, command: str) -> Run:
    """A new run, or the one that is there if its configuration is the same."""
    if (directory / "config.yaml").is_file():
        check_same(directory, experiment)
        return Run.open(directory)
    return Run.create(directory, to_yaml(experiment), {"command": command})


def train(experiment: Experiment, out: Path, command: str, console: Console) -> int:
    """Train or go on training, then write the student as a model directory in the run."""
    if (out / "config.yaml").is_file():
        check_same(out, experiment)
    console.print(f"run {out}: {experiment.loop.steps} steps on {experiment.model}")
    # Before the run exists: a model that cannot be loaded should leave nothing behind.
    with telling("teacher samples", console) as told:
        built = build(experiment, out, told)
    with open_run(out, experiment, command) as run:
        outcome = run_loop(
            built.method, built.batches, experiment.loop, run, built.optims, built.hooks,
            seed=experiment.seed, device=built.device, console=console,
        )  # fmt: skip
        if not outcome.finished:
            console.print(
                f"interrupted after step {outcome.step}, which is saved; the same command goes on"
            )
            return INTERRUPTED
        model = out / "model"
        if not model.is_dir():
            export(built, model, experiment.dtype)
        console.print(f"wrote {model}, an ordinary diffusers directory; try\n  " + shlex.join(
            ["fewstep", "sample", "--model", str(model), "--steps", str(experiment.sampling.steps),
             "--prompts", "..."]
        ))  # fmt: skip
    return 0


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


def sample(request: SampleRequest, console: Console) -> int:
    """PNG files, one grid of them all, and what they were made with."""
    for name in ("steps", "batch"):
        if getattr(request, name) < 1:
            raise UserError(f"--{name} must be >= 1, got {getattr(request, name)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    family = load_family(request.model, device)
    try:
        spec = GenerationSpec(
            model=request.model, fingerprint=fingerprint(family.backbone),
            prompts=request.prompts, seeds=request.seeds, sigmas=family.sigmas(request.steps),
            guidance=request.guidance, height=request.height, width=request.width,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from None
    grid = ", ".join(f"{s:.4g}" for s in spec.sigmas)
    console.print(f"{spec.total} pictures, {spec.calls} model calls each, at sigma {grid}")
    with telling("pictures", console) as told:
        images = generate(family, family.backbone, spec, batch_size=request.batch, progress=told)
    request.out.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(to_bytes(images)):
        row, seed = divmod(i, len(spec.seeds))
        Image.fromarray(pixels).save(request.out / f"{row:04d}_seed{spec.seeds[seed]}.png")
    write_grid(
        request.out / "grid.png", [Column(request.model, images)], spec.prompts,
        seeds=len(spec.seeds),
    )  # fmt: skip
    record = spec.to_json() | {"prompts": list(spec.prompts)}
    write_atomic(request.out / "samples.json", json.dumps(record, indent=1).encode() + b"\n")
    console.print(f"wrote {request.out}")
    return 0


def evaluate(directory: Path, console: Console) -> int:
    """Measure teacher and student of a finished run against the world's truth."""
    experiment = read_experiment(directory)
    student = directory / "model"
    if not student.is_dir():
        raise UserError(
            f"{directory} has no model yet: let `fewstep train` finish, then evaluate again"
        )
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
    with telling("pictures", console) as told:
        path = evaluate_run(experiment, directory, student, choose_device(experiment), told)
    console.print(f"wrote {path}")
    return 0


def report(directory: Path, console: Console) -> int:
    console.print(f"wrote {write_report(directory)}")
    return 0
