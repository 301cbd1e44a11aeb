"""The rows that a run logs: means of what its phases tell, and what the loop itself took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewstep.jsonl import Value
from fewstep.machine import peak_resident_mb
from fewstep.methods.base import Logs
from fewstep.runs import Follower, Run
from fewstep.train.checkpoint import Progress
from fewstep.train.optim import Optim
from fewstep.train.ranks import Ranks
from fewstep.train.stopwatch import Seconds


@dataclass
class Means:
    """Means of a phase's logs over the steps since the last row; adds up without a device sync."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, logs: Logs) -> None:
        for name, value in logs.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def facts(self) -> dict[str, Any]:
        """Sums and counts, as JSON."""
        return {name: [total.tolist(), self.counts[name]] for name, total in self.sums.items()}

    def values(self) -> dict[str, Value]:
        return {name: (total / self.counts[name]).tolist() for name, total in self.sums.items()}


def together(means: Mapping[str, Means], ranks: Ranks) -> Mapping[str, Means]:
    """Those of all processes, each of which has summed up its share of every step."""
    if ranks.count == 1:
        return means
    found: dict[str, Means] = {}
    for said in ranks.all_facts({phase: own.facts() for phase, own in means.items()}):
        for phase, facts in said.items():
            own = found.setdefault(phase, Means())
            for name, (total, count) in facts.items():
                value = torch.tensor(total, dtype=torch.float64)
                own.sums[name] = own.sums[name] + value if name in own.sums else value
                # in a step of few micro-batches some processes have none
                own.counts[name] = max(own.counts.get(name, 0), count)
    return found


def log(
    run: Run | Follower,
    optims: Mapping[str, Optim],
    means: Mapping[str, Means],
    progress: Progress,
    taken: Seconds,
    steps: int,
    device: torch.device | str,
) -> None:
    """A row for each phase that moved in the last `steps` steps, then one for the loop."""
    for name, of_phase in means.items():
        optim = optims[name]
        values = of_phase.values() | {"lr": optim.lr, "updates": optim.updates}
        run.log(progress.step, phase=name, **values)
    run.log(
        progress.step, phase="loop", skipped=progress.skipped,
        seconds_per_step=round(taken.wall / steps, 4),
        cpu_seconds_per_step=round(taken.cpu / steps, 4),
        peak_memory_mb=round(peak_memory_mb(torch.device(device))),
    )  # fmt: skip


def peak_memory_mb(device: torch.device) -> float:
    """The most that this process has held so far where it trains: on the GPU, or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return peak_resident_mb()


def note(means: Mapping[str, Means]) -> str:
    losses = {name: of_phase.values()["loss"] for name, of_phase in means.items()}
    return "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
