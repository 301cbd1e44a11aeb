"""How many prompts of each kind: what is there, what is wanted, and which ones are taken."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewstep.errors import UserError

Stratum = tuple[str, ...]
"""A label of each axis."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """How many prompts of a stratum are taken."""

    total: int | None = None
    """Of all strata; None is as many as the caps leave."""
    floor: int = 0
    """Of each stratum that has so many."""
    cap: int | None = None
    """Of each stratum; None is no limit."""
    power: float = 0.5
    """What is left is shared in proportion to (available)^power: 1 keeps the proportions that are
    there, 0 makes all strata equal."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("total", self.total, 1), ("floor", self.floor, 0), ("cap", self.cap, 1),
        ):  # fmt: skip
            if value is not None and value < least:
                raise UserError(f"--quota.{name} must be >= {least}, got {value}")
        if self.cap is not None and self.floor > self.cap:
            raise UserError(
                f"--quota.floor is {self.floor} and --quota.cap {self.cap}; a floor is no higher "
                "than the cap"
            )
        if not 0 <= self.power <= 1:
            raise UserError(f"--quota.power must be between 0 and 1, got {self.power:g}")


def allocate(available: Mapping[Stratum, int], quota: Quota) -> dict[Stratum, int]:
    """How many of each stratum; together `quota.total`, or all that floors and caps allow.

    UserError where the floors alone are more than the total.
    """
    most = {s: n if quota.cap is None else min(n, quota.cap) for s, n in available.items()}
    least = {s: min(quota.floor, n) for s, n in most.items()}
    total = sum(most.values()) if quota.total is None else min(quota.total, sum(most.values()))
    if sum(least.values()) > total:
        raise UserError(
            f"a floor of {quota.floor} asks for {sum(least.values())} prompts of "
            f"{len(least)} strata, but --quota.total is {total}; lower the floor"
        )
    weights = {s: n**quota.power if n else 0.0 for s, n in available.items()}
    taken = filled(least, most, weights, total)
    whole = {s: int(x + 1e-9) for s, x in taken.items()}
    # what rounding has left goes to the largest remainders
    order = sorted(taken, key=lambda s: (whole[s] - taken[s], s))
    for s in [s for s in order if whole[s] < most[s]][: total - sum(whole.values())]:
        whole[s] += 1
    return whole


def filled(
    least: Mapping[Stratum, int], most: Mapping[Stratum, int], weights: Mapping[Stratum, float],
    total: int,
) -> dict[Stratum, float]:  # fmt: skip
    """x of each stratum with least <= x <= most and sum `total`, as near to the proportion of the
    weights as the bounds let it be: x = min(most, max(least, level * weight))."""
    low, high = 0.0, max([1.0, *(most[s] / w for s, w in weights.items() if w > 0)])

    def at(level: float) -> dict[Stratum, float]:
        return {s: min(most[s], max(least[s], level * w)) for s, w in weights.items()}

    for _ in range(100):  # halving: far beyond the digits of a float
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle).values()) < total else (low, middle)
    return at(high)


def chosen(
    ids: Sequence[str], strata: Sequence[Stratum], wanted: Mapping[Stratum, int], seed: int
) -> list[int]:
    """Places of the prompts that are taken, in their order: of each stratum those that come first
    by a hash of seed and id, so that a longer list changes few of them."""
    left, taken = Counter(dict(wanted)), list[int]()
    for i in sorted(range(len(ids)), key=lambda i: (draw(seed, ids[i]), ids[i])):
        if left[strata[i]] > 0:
            left[strata[i]] -= 1
            taken.append(i)
    return sorted(taken)


def draw(seed: int, name: str) -> float:
    """Uniform in [0, 1), a function of seed and name alone."""
    digest = hashlib.blake2b(f"{seed}\x1f{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def gaps(counts: Mapping[str, int], floor: int) -> dict[str, int]:
    """How many each label lacks, the emptiest first."""
    lacking = {label: floor - n for label, n in counts.items() if n < floor}
    return dict(sorted(lacking.items(), key=lambda item: (-item[1], item[0])))
