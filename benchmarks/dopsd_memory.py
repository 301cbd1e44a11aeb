"""Memory of one training step, each case in a process of its own: how it grows with the states.

`python -m benchmarks.dopsd_memory CONFIG` is such a process: it runs two steps of the experiment in
a YAML file and prints one line of JSON. Activations are what autograd holds at its fullest; the
resident peak is that of the process, model and libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.study_plan import changed
from torch import Tensor

from fewstep.errors import UserError
from fewstep.experiment.builder import build
from fewstep.experiment.codec import from_yaml, to_yaml
from fewstep.experiment.config import Experiment
from fewstep.flow.sigmas import levels
from fewstep.machine import peak_resident_mb
from fewstep.train.rows import Means
from fewstep.train.step import run_step

STATES = (2, 4, 8, 16)
STEPS = 2

Grid = Callable[[int], Sequence[float]]


class Held:
    """Bytes of the tensors that autograd holds, each storage once, those of `weights` left out."""

    def __init__(self, weights: Iterable[Tensor] = ()) -> None:
        self.weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self.sizes: dict[int, list[int]] = {}
        self.most = 0

    def pack(self, tensor: Tensor) -> Kept | Tensor:
        here = tensor.untyped_storage().data_ptr()
        return tensor if here in self.weights else Kept(self, tensor)

    def take(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        entry = self.sizes.setdefault(storage.data_ptr(), [storage.nbytes(), 0])
        entry[1] += 1
        self.most = max(self.most, sum(size for size, _ in self.sizes.values()))

    def give(self, tensor: Tensor) -> None:
        place = tensor.untyped_storage().data_ptr()
        self.sizes[place][1] -= 1
        if not self.sizes[place][1]:
            del self.sizes[place]


class Kept:
    """A tensor that autograd holds, for as long as it does."""

    def __init__(self, held: Held, tensor: Tensor) -> None:
        self.held, self.tensor = held, tensor
        held.take(tensor)

    def __del__(self) -> None:
        self.held.give(self.tensor)


def unpack(kept: Kept | Tensor) -> Tensor:
    return kept.tensor if isinstance(kept, Kept) else kept


def measure(experiment: Experiment) -> dict[str, float]:
    """Of this process; UserError where the experiment cannot be built."""
    with tempfile.TemporaryDirectory() as folder:
        built = build(experiment, Path(folder))
        modules = (built.family.backbone, *built.method.modules.values())
        held = Held(weight for module in modules for weight in module.parameters())
        means = dict[str, Means]()
        with torch.autograd.graph.saved_tensors_hooks(held.pack, unpack):
            for step in range(STEPS):
                run_step(
                    built.method, built.batches(step), built.optims, means, seed=experiment.seed,
                    step=step, device=built.device,
                )  # fmt: skip
    return {"activations_mb": held.most / 1e6, "peak_mb": peak_resident_mb()}


def apart(experiment: Experiment) -> dict[str, float]:
    """The same in a fresh process; UserError with its last line where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(to_yaml(experiment), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.dopsd_memory", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"measuring memory failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def at_states(base: Experiment, grid: Grid, states: int) -> Experiment:
    """D-OPSD's recipe, rolled out on the grid of so many steps with all its states."""
    return changed(base, {
        "sampling.steps": states, "method.student_sigmas": levels(tuple(grid(states))),
        "method.visits": None,
    })  # fmt: skip


def cases(dopsd: Experiment, others: Mapping[str, Experiment], grid: Grid) -> dict[str, Experiment]:
    """By name: D-OPSD at every number of states, then it and other methods as they are."""
    found = {f"{k} states": at_states(dopsd, grid, k) for k in STATES}
    return {**found, "D-OPSD": dopsd, **others}


def growth(found: Mapping[str, Mapping[str, Any]], metric: str) -> float:
    """Most states over fewest."""
    return found[f"{STATES[-1]} states"][metric] / found[f"{STATES[0]} states"][metric]


if __name__ == "__main__":
    [config] = sys.argv[1:]
    experiment = from_yaml(Path(config).read_text(encoding="utf-8"), config)
    print(json.dumps(measure(experiment)))
