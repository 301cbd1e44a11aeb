"""Prompts that repeat an earlier one: in the same words, or nearly so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewstep.curation.likeness import Signatures, candidates, estimated, jaccard, rows_of

AT_ONCE = 65536
"""Pairs whose signatures are in memory together."""
SLACK = 0.15
"""An estimate from 80 hashes is that far below the Jaccard index in one of a thousand cases."""


@dataclass(frozen=True)
class Repeats:
    """What each text repeats: the place of an earlier one that is kept, or -1."""

    of: NDArray[np.int64]
    likeness: NDArray[np.float32]
    """To that one; 1 where nothing is repeated."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        return self.of < 0


def nothing(n: int) -> Repeats:
    return Repeats(np.full(n, -1, np.int64), np.ones(n, np.float32))


def exact(keys: Sequence[str]) -> Repeats:
    """Texts of one key; the first is kept."""
    found, first = nothing(len(keys)), dict[str, int]()
    for i, key in enumerate(keys):
        if (earlier := first.setdefault(key, i)) != i:
            found.of[i] = earlier
    return found


def near(keys: Sequence[str], found: Signatures, threshold: float) -> Repeats:
    """Texts whose Jaccard index to an earlier kept one is at least `threshold`.

    A text that is left out repeats a kept one itself, not by way of others.
    """
    repeats, pairs = nothing(len(keys)), candidates(found, rows_of(threshold))
    for part in np.array_split(pairs, 1 + len(pairs) // AT_ONCE):
        likely = estimated(found[part[:, 0]], found[part[:, 1]]) >= threshold - SLACK
        found_likely: list[tuple[int, int]] = part[likely].tolist()
        for earlier, later in found_likely:
            if repeats.of[later] >= 0 or repeats.of[earlier] >= 0:
                continue
            likeness = jaccard(keys[earlier], keys[later])
            if likeness >= threshold:
                repeats.of[later], repeats.likeness[later] = earlier, likeness
    return repeats
