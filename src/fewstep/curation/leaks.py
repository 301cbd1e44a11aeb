"""Evaluation prompts that stand among prompts for training: equal, nearly equal, or contained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fewstep.curation.duplicates import SLACK
from fewstep.curation.likeness import Signatures, bands, estimated, jaccard, signatures

ANCHOR = 4
"""Words: a shorter evaluation prompt ("a red bus") may stand in any prompt by chance."""


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
        self.evaluation, self.threshold = evaluation, threshold
        self.signatures = signatures(evaluation)
        self.bands = [places(values.tolist()) for values in bands(self.signatures)]
        self.equal = {key: i for i, key in reversed(list(enumerate(evaluation)))}
        self.anchors: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for i, key in enumerate(evaluation):
            words = key.split()
            if len(words) >= ANCHOR:
                self.anchors[tuple(words[:ANCHOR])].append(i)

    def leaks(self, keys: Sequence[str], found: Signatures) -> list[Leak]:
        """At most one for each row, the most alike, in the order of the rows; `found` are the
        signatures of the keys."""
        best: dict[int, Leak] = {}
        for leak in (*self.contained(keys), *self.alike(keys, found)):
            if leak.row not in best or leak.likeness > best[leak.row].likeness:
                best[leak.row] = leak
        return [best[row] for row in sorted(best)]

    def contained(self, keys: Sequence[str]) -> Iterator[Leak]:
        """Rows in which an evaluation prompt of `ANCHOR` words or more stands word for word, or
        that are one."""
        for row, key in enumerate(keys):
            if (i := self.equal.get(key)) is not None:
                yield Leak(row, i, 1.0, "equal")
                continue
            words, whole = key.split(), f" {key} "
            for start in zip(*(words[i:] for i in range(ANCHOR)), strict=False):
                for i in self.anchors.get(start, ()):
                    if f" {self.evaluation[i]} " in whole:
                        yield Leak(row, i, 1.0, "contained")

    def alike(self, keys: Sequence[str], found: Signatures) -> Iterator[Leak]:
        """Rows whose Jaccard index to an evaluation prompt is at least the threshold."""
        pairs: set[tuple[int, int]] = set()
        for values, there in zip(bands(found), self.bands, strict=True):
            known = np.fromiter(there, np.uint64, len(there))
            for row in np.flatnonzero(np.isin(values, known)).tolist():
                pairs |= {(row, i) for i in there[int(values[row])]}
        if not pairs:
            return
        ordered = np.array(sorted(pairs), np.int64)
        estimates = estimated(found[ordered[:, 0]], self.signatures[ordered[:, 1]])
        likely = estimates >= self.threshold - SLACK
        likely_pairs: list[tuple[int, int]] = ordered[likely].tolist()
        for row, i in likely_pairs:
            likeness = jaccard(keys[row], self.evaluation[i])
            if likeness >= self.threshold:
                yield Leak(row, i, likeness, "nearly equal")


def places(values: Sequence[int]) -> dict[int, list[int]]:
    """Where each value stands."""
    found: dict[int, list[int]] = {}
    for i, value in enumerate(values):
        found.setdefault(value, []).append(i)
    return found
