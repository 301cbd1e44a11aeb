"""What the rows of a run say of the steps since the last look: signs that cost nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Stretch:
    """Rows of some steps, of which each counts as many as it is the mean of."""

    begin: int = 0
    """The step of the look before."""
    begun: bool = False
    """Whether the student had moved before: until it does, heads win as they should."""
    moves: bool = False
    skipped_before: int = 0
    skipped: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    """The step of the last row, by phase."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], begin: int) -> Stretch:
        """That of a run which goes on from some step, its last look at `begin`."""
        found = cls()
        between = True
        for row in rows:
            if row["step"] > begin and between:
                found, between = found.next(begin), False
            found.hear(row)
        return found.next(begin) if between else found

    def next(self, begin: int) -> Stretch:
        """What follows a look at step `begin`."""
        return Stretch(
            begin=begin, begun=self.begun or self.moves, skipped_before=self.skipped,
            skipped=self.skipped,
        )  # fmt: skip

    def hear(self, row: Mapping[str, Any]) -> None:
        """A row of metrics as it was written."""
        phase, step = row.get("phase"), int(row["step"])
        if not isinstance(phase, str):
            return
        weight = max(1, step - self.last.get(phase, self.begin))
        self.last[phase] = step
        match phase:
            case "loop":
                self.skipped = int(row["skipped"])
            case "student":
                self.moves = True
        for name, value in row.items():
            if phase == "heads" and name in HEADS:
                key, own = name, float(np.mean(value))
                self.sums[key] = self.sums.get(key, 0.0) + weight * own
                self.weights[key] = self.weights.get(key, 0) + weight

    def values(self, step: int) -> dict[str, float]:
        """Signs of the stretch that ends with this step; empty where there were no rows."""
        if not self.last:
            return {}
        mean = {name: total / self.weights[name] for name, total in self.sums.items()}
        found = {"skipped": (self.skipped - self.skipped_before) / max(1, step - self.begin)}
        if self.begun and "gap" in mean:
            found["gap"] = mean["gap"]
            found["accuracy"] = (mean["real_accuracy"] + mean["fake_accuracy"]) / 2
        if "x0_hat_std" in mean:
            found["spread"] = mean["x0_hat_std"] / max(mean["x0_std"], 1e-12)
        return found


HEADS = ("gap", "real_accuracy", "fake_accuracy", "x0_hat_std", "x0_std")
"""Of the heads' rows, what signs are made of."""
