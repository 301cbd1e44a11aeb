"""The named suites: what is drawn, what it is measured with, and what is made of it.

quick       64 prompts x 4 seeds: minutes on a CPU
shapes      200 x 4, the size of this project's own claims
full        1000 x 4 with the field's extractors: their weights must be there
diversity   32 x 16: how differently the seeds of one prompt come out, with a sheet for each model
retention   96 x 2 at 1, 2, 4, 8, 16 and 30 steps: lost distillation is worse at few steps and
            better at many
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.judge import Judged, difference, kid_gap, recovered
from fewstep.evaluate.results import Comparison, Curve, Point

SuiteName = Literal["quick", "shapes", "full", "diversity", "retention"]


@dataclass(frozen=True, kw_only=True)
class Suite:
    question: str
    prompts: int
    seeds: int
    extractors: tuple[str, ...] = ("shapes",)
    steps: tuple[int, ...] = ()
    """Every model at each of these; none is at the steps that it was named with."""
    sheets: int = 0
    """Prompts of which every seed is shown."""


HOW_GOOD = "How good are the pictures of these models?"
SUITES: Mapping[SuiteName, Suite] = {
    "quick": Suite(question=HOW_GOOD, prompts=64, seeds=4),
    "shapes": Suite(question=HOW_GOOD, prompts=200, seeds=4, extractors=("shapes", "pixels")),
    "full": Suite(
        question=HOW_GOOD, prompts=1000, seeds=4,
        extractors=("inception", "dinov2", "clip", "lpips-alex"),
    ),
    "diversity": Suite(
        question="How differently do the seeds of one prompt come out?",
        prompts=32, seeds=16, sheets=4, extractors=("shapes", "lpips-alex"),
    ),
    "retention": Suite(
        question="Does the model still draw well in few steps?",
        prompts=96, seeds=2, steps=(1, 2, 4, 8, 16, 30),
    ),
}  # fmt: skip

COMPARED = ("kid", "adherence", "layout_diversity")
SPREADS = ("layout_diversity", "lpips_alex", "distance")
"""Of the seeds of a prompt."""


def against_first(
    judged: Judged, names: Sequence[str], keys: Sequence[str] = COMPARED
) -> list[Comparison]:
    """Every later row of these minus the first, paired."""
    return [
        difference(judged, name, names[0], key)
        for name in names[1:]
        for key in keys
        if all(key in judged.draws[row] for row in (name, names[0]))
    ]


def gaps(judged: Judged, start: str, end: str) -> list[Comparison]:
    """How far every other model has gone from start to end, in KID and in diversity."""
    others = [r.name for r in judged.rows if r.role != "truth" and r.name not in (start, end)]
    found = [
        kid_gap(judged, start, end, name, f"share of the KID gap closed by {name}")
        for name in others
        if "kid" in judged.draws[name]
    ]
    return found + [
        recovered(judged, start, end, name, key)
        for name in others
        for key in SPREADS
        if key in judged.draws[name]
    ]


def retention_curves(judged: Judged, points: Mapping[str, Mapping[float, str]]) -> list[Curve]:
    """Adherence and KID over steps; `points` maps a model to its rows by steps."""
    found: list[Curve] = []
    for key in COMPARED:
        if not all(key in judged.draws[row] for rows in points.values() for row in rows.values()):
            continue
        lines = {
            model: [Point.at(f"{n:g}", n, judged.metrics(row)[key]) for n, row in rows.items()]
            for model, rows in points.items()
        }
        kind = metric(key)
        found.append(
            Curve(
                title=f"{kind.label} over steps", x="steps", y=kind.label, lines=lines,
                caption=f"{kind.explained} Model calls without guidance; {kind.better}.",
            )
        )  # fmt: skip
    return found


def strength_curves(judged: Judged, points: Mapping[str, Mapping[float, str]]) -> list[Curve]:
    """Diversity against quality, a point for each strength: noise raises diversity too, so only
    both together tell whether an adapter helps."""
    found: list[Curve] = []
    for spread in SPREADS:
        for good in ("kid", "adherence"):
            rows = [row for of in points.values() for row in of.values()]
            if not all(key in judged.draws[row] for key in (spread, good) for row in rows):
                continue
            x, y = metric(spread), metric(good)
            lines = {
                model: [
                    Point(
                        label=f"{s:g}", x=judged.metrics(row)[spread],
                        y=judged.metrics(row)[good],
                    )
                    for s, row in of.items()
                ]
                for model, of in points.items()
            }  # fmt: skip
            found.append(
                Curve(
                    title=f"{y.label} against {x.label.lower()}", x=x.label, y=y.label, lines=lines,
                    caption=f"A point for each strength of the adapter. {x.label}: {x.better}; "
                    f"{y.label}: {y.better}.",
                )
            )  # fmt: skip
    return found
