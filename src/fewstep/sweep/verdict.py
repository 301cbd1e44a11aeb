"""Who has won, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.statistics import Estimate
from fewstep.sweep.decide import Better
from fewstep.sweep.plan import Plan
from fewstep.sweep.store import Trial


@dataclass(frozen=True, kw_only=True)
class Afresh:
    """A finalist on training seeds that it was not chosen on."""

    number: int
    seeds: tuple[int, ...]
    sweep: Estimate
    """Its score on the seeds that it was chosen on."""
    afresh: Estimate | None = None
    """None where every new run has failed."""
    curse: Estimate | None = None
    """The former minus the latter."""
    gain: Estimate | None = None
    """Minus the recipe on the same new seeds; None of the recipe."""
    holds: bool = False
    why: str = ""
    """What failed."""

    def to_json(self) -> dict[str, Any]:
        numbers = {"sweep": self.sweep, "afresh": self.afresh, "curse": self.curse,
                   "gain": self.gain}  # fmt: skip
        return {
            "number": self.number, "seeds": list(self.seeds), "holds": self.holds, "why": self.why,
            **{key: None if e is None else e.to_json() for key, e in numbers.items()},
        }  # fmt: skip


def winner_of(fresh: Sequence[Afresh], ranked: Sequence[Trial], better: Better) -> int:
    """The best score afresh among those of which no run failed; before there is any, the first of
    the ranking, and the recipe where nothing is complete."""
    whole = [(one.afresh.value, one.number) for one in fresh if one.afresh and not one.why]
    if whole:
        return (min if better == "lower" else max)(whole)[1]
    return ranked[0].number if ranked else 0


def verdict(
    plan: Plan, fresh: Sequence[Afresh], rows: Sequence[Mapping[str, Any]], winner: int
) -> str:
    """In a sentence or two."""
    name = metric(plan.score_key).label
    if not fresh:
        ran = sum(row["state"] in ("complete", "pruned", "failed") for row in rows)
        return f"{ran} of {plan.trials} trials have run, and nothing was confirmed yet."
    seeds = f"{plan.fresh} new training seeds"
    own = next(one for one in fresh if one.number == winner)
    if own.number == 0:
        return f"The recipe stays: nothing that was tried scores better on {seeds}."
    if own.gain is None:
        return f"Trial {winner} leads on {seeds}, but the recipe failed on them."
    told = f"{name} {own.gain.value:+.3g} ({own.gain.low:+.3g} to {own.gain.high:+.3g})"
    if own.holds:
        return f"Trial {winner} is better than the recipe on {seeds}: {told}."
    return f"Trial {winner} leads on {seeds}, but its lead over the recipe may be chance: {told}."
