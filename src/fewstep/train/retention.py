"""What a run of tuning has lost and won so far, and what follows from it: a rule over its rows.

    best       of the rows that have not collapsed, the one with the highest concept score among
               those whose loss is within the tolerance; without such a one, that with the least
               loss, of equal ones the one with the highest score; without any, the model before
               training. Of equals the first.
    collapse   a loss above the limit: back to the best, at a lower rate, so many times
    patience   so many rows after the best, and the run is done

Row 0 is the model before training, whose loss is 0. Rows say everything, so a run that resumes
decides as one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    every: int = 0
    """Steps between two looks, and one more at the end; 0 looks never."""
    prompts: int = 16
    """Outside of the concept: the world's for validation, or the last of data.prompts_file."""
    seeds: int = 1
    """Pictures of each prompt."""
    steps: tuple[int, ...] = (4, 8, 16, 30)
    """Numbers of steps that are drawn. The rule looks at sampling.steps alone, which is drawn in
    any case: it is what the student is for."""
    concept: int = 8
    """Pictures of the captions, at sampling.steps."""
    extractor: str | None = None
    """Whose features tell how near they come; none is the world's own network, or pixels."""
    batch: int = 8
    """Pictures drawn at a time."""
    tolerance: float = 0.1
    """Of the loss: the drop in adherence where a world judges, one picture in ten; else the largest
    change of what pictures look like (`evaluate.retention`)."""
    patience: int = 0
    """Looks without a better one after which the run is done; 0 waits for ever."""
    collapse: float = 0.5
    """A loss above this takes the run back to its best."""
    slower: float = 0.5
    """What all learning rates are multiplied by each time."""
    returns: int = 2
    """So many times at most; at the next collapse the run stops."""
    export: Literal["best", "last"] = "best"
    """Which weights become the model and the adapter of the run."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("every", self.every, 0), ("prompts", self.prompts, 8), ("seeds", self.seeds, 1),
            ("concept", self.concept, 1), ("batch", self.batch, 1), ("patience", self.patience, 0),
            ("returns", self.returns, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"retention.{name} must be >= {least}, got {value}")
        if wrong := [n for n in self.steps if n < 1]:
            raise ValueError(f"retention.steps must be >= 1, got {wrong[0]}")
        if not 0 <= self.tolerance <= self.collapse:
            raise ValueError(
                f"retention.tolerance must lie in 0 .. retention.collapse = {self.collapse}, got "
                f"{self.tolerance}"
            )
        if not 0 < self.slower <= 1:
            raise ValueError(f"retention.slower must lie in (0, 1], got {self.slower}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One look at the student."""

    step: int
    concept: float
    """How much nearer to the training pictures than the model before: 0 is no nearer."""
    loss: float
    """Of what lies outside of the concept, at the student's own steps; 0 is none."""
    details: dict[str, Any] = field(default_factory=dict)
    """By number of steps, and whatever else is worth telling (JSON)."""


def best(rows: Sequence[Row], cfg: RetentionConfig) -> Row:
    """The row that is kept; rows begin with that of step 0."""
    return max(rows, key=lambda row: worth(row, cfg))  # the first of equals


def worth(row: Row, cfg: RetentionConfig) -> tuple[int, float, float]:
    """Rows in their order; see the rule above."""
    if row.step == 0:
        return 1, 0.0, 0.0
    if not row.loss <= cfg.collapse:
        return 0, 0.0, 0.0
    concept = row.concept if math.isfinite(row.concept) else -math.inf
    return (3, concept, 0.0) if row.loss <= cfg.tolerance else (2, -row.loss, concept)


def collapses(rows: Sequence[Row], cfg: RetentionConfig) -> int:
    """How many of the rows have collapsed; a loss that is not a number has."""
    return sum(not row.loss <= cfg.collapse for row in rows)


def reason_to_stop(rows: Sequence[Row], cfg: RetentionConfig) -> str | None:
    """Why the run should go no further than the last row, None if it should."""
    last, kept = rows[-1], best(rows, cfg)
    if not last.loss <= cfg.collapse and (n := collapses(rows, cfg)) > cfg.returns:
        return (
            f"collapse number {n} at step {last.step}: a loss of {last.loss:.3f}, above "
            f"retention.collapse = {cfg.collapse:g}, and the run has gone back retention.returns = "
            f"{cfg.returns} times"
        )
    waited = sum(row.step > kept.step for row in rows)
    if cfg.patience and waited >= cfg.patience:
        return (
            f"no look since step {kept.step} was better (retention.patience = {cfg.patience}): "
            f"concept {kept.concept:.3f}, loss {kept.loss:.3f}"
        )
    return None


def returns(rows: Sequence[Row], cfg: RetentionConfig, last_step: int) -> bool:
    """Whether the last row takes the run back to its best: not where nothing would follow."""
    last = rows[-1]
    return (
        not last.loss <= cfg.collapse
        and last.step < last_step
        and reason_to_stop(rows, cfg) is None
    )


def reason_to_keep(rows: Sequence[Row], cfg: RetentionConfig) -> str:
    """Why the best of the rows is the best."""
    kept = best(rows, cfg)
    within = sum(row.step > 0 and row.loss <= cfg.tolerance for row in rows)
    standing = sum(row.step > 0 and row.loss <= cfg.collapse for row in rows)
    rank, *_ = worth(kept, cfg)
    if rank == 3:
        return (
            f"of the looks with a loss within retention.tolerance = {cfg.tolerance:g} ({within} of "
            f"{len(rows) - 1}) it comes nearest to the concept"
        )
    if rank == 2:
        return (
            f"no look has a loss within retention.tolerance = {cfg.tolerance:g}; of those that have"
            f" not collapsed ({standing} of {len(rows) - 1}) it has the least loss"
        )
    if len(rows) == 1:
        return "it is the model before training, and there is no other look yet"
    return "it is the model before training, and every other look has collapsed"


def decided(rows: Sequence[Row], cfg: RetentionConfig, last_step: int) -> dict[str, Any]:
    """What the rule has made of the rows, as JSON: the row that is kept, where the run went back
    and to which step, at which share of its learning rates it went on, and why it ended early."""
    returned = [
        {
            "step": rows[i].step,
            "to": best(rows[: i + 1], cfg).step,
            "rate": cfg.slower ** collapses(rows[: i + 1], cfg),
        }
        for i in range(len(rows))
        if returns(rows[: i + 1], cfg, last_step)
    ]
    return {
        "kept": best(rows, cfg).step, "why": reason_to_keep(rows, cfg), "returned": returned,
        "collapsed": [row.step for row in rows if not row.loss <= cfg.collapse],
        "stopped": reason_to_stop(rows, cfg), "tolerance": cfg.tolerance, "collapse": cfg.collapse,
    }  # fmt: skip
