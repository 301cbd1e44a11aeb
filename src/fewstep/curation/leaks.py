"""Evaluation prompts that stand among prompts for training: equal, nearly equal, or contained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fewstep.curation.duplicates import SLACK
from fewstep.curation.likeness import (
    Signatures,
    bands,
    estimated,
    jaccard,
    rows_of,
    signatures,
)

ANCHOR = 4
"""Words: a shorter evaluation prompt ("a red bus") may stand in any prompt by chance."""
Stretch = tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """A prompt that gives an evaluation prompt away."""

    row: int
    evaluation: int
    likeness: float
    """The Jaccard index; 1 where the evaluation prompt is contained as it stands."""
    how: str


class Guard:
    """Knows evaluation prompts, by `clean.key`, and finds them among others.

    threshold  the least Jaccard index that counts as nearly equal
    """

    def __init__(self, evaluation: Sequence[str], threshold: float) -> None:
        self.place = {key: i for i, key in reversed(list(enumerate(evaluation)))}
        """Where each key first stands."""
        self.keys, self.threshold, self.rows = list(self.place), threshold, rows_of(threshold)
        self.signatures = signatures(self.keys)
        self.bands = [places(v.tolist()) for v in bands(self.signatures, self.rows)]
        self.anchors: defaultdict[Stretch, list[str]] = defaultdict(list)
        """Keys by the stretch of words that the fewest of them have."""
        counts = Counter(stretch for key in self.keys for stretch in set(stretches(key)))
        for key in self.keys:
            if found := stretches(key):
                self.anchors[min(found, key=lambda stretch: counts[stretch])].append(key)

    def leaks(self, keys: Sequence[str], found: Signatures) -> list[Leak]:
        """At most one for each row, the most alike, in the order of the rows; `found` are the
        signatures of the keys."""
        best = {row: leak for row, key in enumerate(keys)
                if (leak := self.contained(row, key)) is not None}  # fmt: skip
        for leak in self.alike(keys, found, best):
            if leak.row not in best or leak.likeness > best[leak.row].likeness:
                best[leak.row] = leak
        return [best[row] for row in sorted(best)]

    def contained(self, row: int, key: str) -> Leak | None:
        """Of a key that is an evaluation prompt, or in which one of `ANCHOR` words or more stands
        word for word."""
        if (i := self.place.get(key)) is not None:
            return Leak(row, i, 1.0, "equal")
        whole = f" {key} "
        for stretch in stretches(key):
            for inner in self.anchors.get(stretch, ()):
                if f" {inner} " in whole:
                    return Leak(row, self.place[inner], 1.0, "contained")
        return None

    def alike(
        self, keys: Sequence[str], found: Signatures, known: Container[int]
    ) -> Iterator[Leak]:
        """Rows but the known ones whose Jaccard index to an evaluation prompt is at least the
        threshold."""
        pairs: set[tuple[int, int]] = set()
        for values, there in zip(bands(found, self.rows), self.bands, strict=True):
            shared = np.fromiter(there, np.uint64, len(there))
            for row in np.flatnonzero(np.isin(values, shared)).tolist():
                if row not in known:
                    pairs |= {(row, i) for i in there[int(values[row])]}
        if not pairs:
            return
        ordered = np.array(sorted(pairs), np.int64)
        estimates = estimated(found[ordered[:, 0]], self.signatures[ordered[:, 1]])
        likely: list[tuple[int, int]] = ordered[estimates >= self.threshold - SLACK].tolist()
        for row, i in likely:
            likeness = jaccard(keys[row], self.keys[i])
            if likeness >= self.threshold:
                yield Leak(row, self.place[self.keys[i]], likeness, "nearly equal")


def stretches(key: str) -> list[Stretch]:
    """Every `ANCHOR` words in a row."""
    words = key.split()
    return list(zip(*(words[i:] for i in range(ANCHOR)), strict=False))


def places(values: Sequence[int]) -> dict[int, list[int]]:
    """Where each value stands."""
    found: dict[int, list[int]] = {}
    for i, value in enumerate(values):
        found.setdefault(value, []).append(i)
    return found
