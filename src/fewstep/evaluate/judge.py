"""Several sets of pictures of the same prompts, each measured, all compared on the same resamples.

The models share noise: seed s of a prompt starts from the same eps in each. True pictures have a
row of their own, made with other seeds than the reference, so that every metric shows what it gives
for perfect pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fewstep.errors import UserError
from fewstep.evaluate import diversity
from fewstep.evaluate.gallery import Pictures, true_pictures
from fewstep.evaluate.generate import GenerationSpec, Progress, silent
from fewstep.evaluate.measures import Instruments, Measures, measure
from fewstep.evaluate.metrics import draws, estimates, minus, refused
from fewstep.evaluate.results import Comparison, Cost, Role, Row
from fewstep.evaluate.statistics import Draws, Estimate, estimate, gap_closed, prompt_weights
from fewstep.rng import seed_of
from fewstep.worlds.base import World

FRESH = 1_000_000
"""Added to the seeds of true pictures that are held against the truth."""
GAP_GOAL = 0.8


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Pictures, and how they were made where that is known."""

    pictures: Pictures
    spec: GenerationSpec | None = None
    cost: Cost | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row to be: its pictures are drawn when its turn has come."""

    name: str
    role: Role
    total: int
    """Pictures that it will have."""
    draw: Callable[[Progress], Drawn]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was found; the dictionaries are by name of a row."""

    rows: list[Row]
    pictures: dict[str, Pictures]
    measures: dict[str, Measures]
    draws: dict[str, dict[str, Draws]]
    notes: list[str] = field(default_factory=list)
    """What was not measured, and why."""

    def metrics(self, name: str) -> Mapping[str, Estimate]:
        return next(row.metrics for row in self.rows if row.name == name)

    def size(self, *names: str) -> tuple[int, int]:
        """Prompts, and the fewest seeds of these rows."""
        sizes = [self.measures[name].size for name in names]
        return sizes[0][0], min(seeds for _, seeds in sizes)


def truth_row(world: World, prompts: Sequence[str], seeds: Sequence[int]) -> Candidate:
    """What perfect pictures would get."""
    fresh = [seed + FRESH for seed in seeds]
    found = Drawn(pictures=true_pictures(world, prompts, fresh))
    total = len(prompts) * len(seeds)
    return Candidate(name="true pictures", role="truth", total=total, draw=lambda told: found)


def judge(
    candidates: Sequence[Candidate], reference: Pictures, world: World | None,
    instruments: Instruments, told: Progress = silent,
) -> Judged:  # fmt: skip
    """Draw and measure everything.

    UserError where pictures are not of the reference's prompts, or of another size.
    """
    names = [candidate.name for candidate in candidates]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{twice.pop()!r} is named twice; name each model and step count once")
    size = size_of(reference if world is None else true_pictures(world, reference.prompts, (0,)))
    check_size("the reference", reference, size)
    truth = measure(reference, world, instruments)
    weights = prompt_weights(len(reference.prompts), np.random.default_rng(seed_of("bootstrap")))
    judged = Judged(rows=[], pictures={}, measures={}, draws={})
    done, total = 0, sum(candidate.total for candidate in candidates)
    for candidate in candidates:
        drawn = candidate.draw(lambda own, _, before=done: told(before + own, total))
        done += candidate.total
        check_prompts(candidate.name, drawn.pictures, reference.prompts)
        check_size(candidate.name, drawn.pictures, size)
        own = measure(drawn.pictures, world, instruments)
        found = draws(own, truth, weights)
        judged.rows.append(
            Row(
                name=candidate.name,
                role=candidate.role,
                metrics=estimates(own, found),
                spec=drawn.spec,
                cost=drawn.cost,
            )
        )
        judged.pictures[candidate.name] = drawn.pictures
        judged.measures[candidate.name] = own
        judged.draws[candidate.name] = found
        judged.notes.extend(note for note in refused(own, truth) if note not in judged.notes)
    judged.notes.extend(uneven(judged.measures))
    return judged


def check_prompts(name: str, pictures: Pictures, prompts: Sequence[str]) -> None:
    """UserError unless the pictures are of these prompts in this order."""
    for i, (own, asked) in enumerate(zip(pictures.prompts, prompts, strict=False)):
        if own != asked:
            raise UserError(
                f"the pictures of {name} and the reference have other prompts: number {i} is "
                f"{own!r} and {asked!r}; make both from one list"
            )
    if len(pictures.prompts) != len(prompts):
        raise UserError(
            f"the pictures of {name} have {len(pictures.prompts)} prompts, the reference has "
            f"{len(prompts)}; make both from one list"
        )


def size_of(pictures: Pictures) -> tuple[int, int]:
    """Height and width in pixels, of the first prompt's."""
    height, width = pictures.read(0, 1).shape[2:]
    return height, width


def check_size(name: str, pictures: Pictures, size: tuple[int, int]) -> None:
    """UserError unless the pictures have this size: sharpness and much else depend on it."""
    if (own := size_of(pictures)) != size:
        raise UserError(
            f"the pictures of {name} are {own[0]} x {own[1]} pixels, they are held against "
            f"{size[0]} x {size[1]}; make all at one size (--height, --width)"
        )


def uneven(measures: Mapping[str, Measures]) -> list[str]:
    """A note where rows have unequal numbers of pictures, which some metrics feel."""
    seeds = {name: own.n_seeds for name, own in measures.items()}
    if len(set(seeds.values())) < 2:
        return []
    told = ", ".join(f"{name} {n}" for name, n in seeds.items())
    return [
        f"The rows have unequal numbers of pictures for each prompt ({told}): FD, precision, "
        "recall, density, coverage and the Vendi score compare only between equal numbers."
    ]


def difference(judged: Judged, a: str, b: str, metric: str, what: str | None = None) -> Comparison:
    """a - b of a metric, paired."""
    own, other = judged.measures[a], judged.measures[b]
    found = minus(metric, own, other, judged.draws[a][metric], judged.draws[b][metric])
    name = what or f"{metric.replace('_', ' ')}, {a} minus {b}"
    return Comparison(name=name, metric=metric, rows=(a, b), estimate=found)


def kid_gap(judged: Judged, start: str, end: str, student: str, what: str) -> Comparison:
    """Share of the KID gap between two rows that a third has closed."""
    kids = [judged.draws[name]["kid"] for name in (start, end, student)]
    found = estimate(gap_closed(*kids), *judged.size(start, end, student))
    return Comparison(
        name=what, metric="kid_gap_closed", rows=(student, start, end), goal=GAP_GOAL,
        estimate=found,
    )  # fmt: skip


def recovered(judged: Judged, start: str, end: str, adapted: str, metric: str) -> Comparison:
    """Share of the diversity that `start` lost against `end` and `adapted` has back."""
    three = [judged.draws[name][metric] for name in (start, adapted, end)]
    found = estimate(diversity.recovered(*three), *judged.size(start, end, adapted))
    what = f"share of the {metric.replace('_', ' ')} gap recovered by {adapted}"
    rows = adapted, start, end
    return Comparison(name=what, metric=f"{metric}_recovered", rows=rows, estimate=found)
