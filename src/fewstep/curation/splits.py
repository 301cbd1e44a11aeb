"""Train, validation and test: by a hash, within each stratum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewstep.curation.strata import Stratum, draw
from fewstep.errors import UserError

SplitName = Literal["train", "val", "test"]
NAMES: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of the prompts that are taken; the rest is for training."""

    val: float = 0.01
    test: float = 0.01

    def __post_init__(self) -> None:
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise UserError(
                "--split.val and --split.test must be >= 0 and together below 1, got "
                f"{self.val:g} and {self.test:g}"
            )


def split(
    ids: Sequence[str], strata: Sequence[Stratum], shares: Shares, seed: int
) -> list[SplitName]:
    """The split of each prompt. Every stratum gives each split its share, rounded at random so
    that small strata give theirs together."""
    sizes, seen = Counter(strata), Counter[Stratum]()
    found: list[SplitName] = ["train"] * len(ids)
    for i in sorted(range(len(ids)), key=lambda i: (draw(seed, f"split {ids[i]}"), ids[i])):
        name = strata[i]
        start = draw(seed, f"start {name}")  # where on the circle the stratum begins
        place = (start + seen[name] / sizes[name]) % 1
        seen[name] += 1
        if place < shares.test:
            found[i] = "test"
        elif place < shares.test + shares.val:
            found[i] = "val"
    return found
