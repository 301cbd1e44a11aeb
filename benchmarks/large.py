"""Models, batches and stop watches of the scripts that measure steps: `step`, `memory`,
`checkpoint`, `drawing`.

On a GPU they measure Z-Image at its full size with random weights, for time and memory do not hang
on the numbers; on a CPU the Shapes model. The same command does for both, `--size` chooses. Each
prints one line of JSON and a table and writes results/bench/SCRIPT_SIZE.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.common import facts, write_json
from benchmarks.study_plan import changed
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.errors import UserError
from fewstep.experiment.builder import make_method, make_optims
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family
from fewstep.experiment.outline import published
from fewstep.experiment.packing import pack_blocks
from fewstep.experiment.plan import GPUS
from fewstep.experiment.rehearsal import Lengths, batch_of
from fewstep.families.base import Cond
from fewstep.families.recompute import recompute
from fewstep.families.zimage import ZImage
from fewstep.methods.base import Method
from fewstep.recipes import RECIPES
from fewstep.shapes import Pixels
from fewstep.train.live import Live
from fewstep.train.optim import Optim
from fewstep.train.step import run_step

LENGTHS = {"shapes": Lengths(cond=20, context=40), "zimage": Lengths()}
"""Tokens of prompts, by size."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An experiment that is measured."""

    name: str
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name."""
    cap: float | None = None
    """GiB that the allocator of a GPU may take."""

    def experiment(self) -> Experiment:
        return changed(RECIPES[self.recipe](), self.changes)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A method with everything that its steps need."""

    experiment: Experiment
    method: Method
    optims: dict[str, Optim]
    batch: Batch
    device: torch.device
    families: tuple[ZImage, ...]

    def step(self, step: int, method: Method | None = None) -> None:
        """A real one, by `method` where another one shares the modules of this."""
        bad = run_step(
            method or self.method, [self.batch], self.optims, {}, seed=0, step=step,
            device=self.device,
        )  # fmt: skip
        for optim in self.optims.values():
            optim.first = None  # of which the loop says a line
        if bad is not None:
            raise FloatingPointError(f"step {step}: {bad} is not finite")

    def fullest(self) -> int:
        """A step with most phases."""
        steps = range(self.experiment.loop.steps)
        return max(steps, key=lambda s: len(list(self.method.phases(s))))

    def step_of(self, phases: Sequence[str]) -> int:
        """A step with exactly these phases."""
        steps = range(self.experiment.loop.steps)
        return next(s for s in steps if [p.name for p in self.method.phases(s)] == [*phases])


class Unread(ZImage):
    """Random numbers for prompts, whose encoder is an outline."""

    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        width, device = self.backbone.cond_width, self.pipeline.transformer.device
        draws = torch.Generator().manual_seed(0)
        each = (torch.randn(LENGTHS["zimage"].cond, width, generator=draws) for _ in prompts)
        return Cond(tuple(tokens.to(device) for tokens in each))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=("shapes", "zimage"),
                        help="by default zimage where there is a GPU")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"))


def chosen(args: argparse.Namespace) -> tuple[str, torch.device]:
    """Size and device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    return args.size or ("zimage" if device.type == "cuda" else "shapes"), device


def model_of(size: str, model: str, experiment: Experiment, device: torch.device) -> ZImage:
    """The Shapes model, or Z-Image with random numbers."""
    if size == "shapes":
        return load_family("shapes", device, experiment.dtype, experiment.engine)
    found = published(model)
    assert found is not None  # recipes for 6B models name published ones
    draws = torch.Generator(device).manual_seed(0)
    for part in (found.pipeline.transformer, found.pipeline.vae):
        nn.Module.to(part, getattr(torch, experiment.dtype))
        part.to_empty(device=device)
        with torch.no_grad():
            for name, p in part.named_parameters():
                p.normal_(float("norm" in name), 0.02, generator=draws)
    made = Unread(found.pipeline, None)
    made.packed_from = "random numbers"  # of what is an outline there is no fingerprint
    return made


def ready(case: Case, size: str, device: torch.device) -> Ready:
    """One micro-batch is the step."""
    experiment = case.experiment()
    data = experiment.data
    experiment = replace(experiment, data=replace(data, micro_batch=None))
    families = [model_of(size, experiment.model, experiment, device)]
    if experiment.teacher is not None:
        families.append(model_of(size, experiment.teacher, experiment, device))
    if experiment.recompute:
        recompute(*families, share=experiment.recompute_share)
    if experiment.frozen != "dtype" and experiment.adapter is not None:
        for family in families:
            pack_blocks(family, experiment.frozen)
    method = make_method(experiment, families[0], families[-1], device)
    optims = make_optims(experiment, method)
    of = batch_of(experiment, families[0], LENGTHS[size], data.batch_size)
    return Ready(
        experiment=experiment, method=method, optims=optims, batch=with_numbers(of, device),
        device=device, families=tuple(families),
    )  # fmt: skip


def with_numbers(batch: Batch, device: torch.device) -> Batch:
    """A batch of shapes alone, filled."""
    draws = torch.Generator().manual_seed(0)

    def drawn(shape: Tensor) -> Tensor:
        return torch.randn(shape.shape, generator=draws).to(device)

    def cond(shapes: Cond | None) -> Cond | None:
        return None if shapes is None else Cond(tuple(map(drawn, shapes.tokens)))

    own = cond(batch.cond)
    assert own is not None
    return replace(
        batch, x0=drawn(batch.x0), cond=own, context=cond(batch.context),
        prior=None if batch.prior is None else with_numbers(batch.prior, device),
    )  # fmt: skip


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """By the clock, of a GPU until it is done."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def capped(cap: float | None, device: torch.device) -> Iterator[None]:
    """The allocator takes no more GiB than this."""
    if device.type == "cuda" and cap is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap * 2**30 / total))
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
            gc.collect()
            torch.cuda.empty_cache()


def peak(work: Callable[[], object], device: torch.device, there: Sequence[Tensor]) -> int:
    """The most bytes of tensors while it works. `there` are those before, which a CPU has to be
    told of."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()
    live = Live()
    live.add(there)
    with live:
        live.restart()
        work()
    return live.peak


def gpu_peak(device: torch.device) -> float | None:
    """Dense products in bfloat16 a second, of a known GPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = [gpu.flops for gpu in GPUS if gpu.name.split()[0] in name]
    if not found:
        raise UserError(f"the peak of {name} is not known here; add it to experiment/plan.py")
    return found[0]


def made_by(command: str, device: torch.device) -> dict[str, Any]:
    found = facts(command, 1)
    if device.type == "cuda":
        found["hardware"] = torch.cuda.get_device_name(device)
    return found


def told(script: str, size: str, record: Mapping[str, Any], results: Path) -> None:
    """One line of JSON, and the file."""
    print(json.dumps(record), flush=True)
    path = results / "bench" / f"{script}_{size}.json"
    write_json(path, record)
    print(f"wrote {path}")
