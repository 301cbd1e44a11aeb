"""How alike texts are: the Jaccard index of their shingles, and pairs that may be alike.

Signatures are MinHash (Broder 1997), candidates come from its bands (Indyk and Motwani 1998). In
numpy for all texts at once: an object for each text takes three to ten times as long and as much
memory (decision 12).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fewstep.data.told import Told, quiet

SHINGLE = 5
"""Bytes; a text is padded by a space at both ends."""
HASHES = 80
SURE = 0.99
"""Least probability that a pair at the threshold shares a band."""
AT_ONCE = 4096
"""Texts whose shingles are in memory together."""
Signatures = NDArray[np.uint32]
"""(n, HASHES): the least hash of each text under each permutation."""


def shingles(text: str) -> NDArray[np.uint32]:
    """Hashes of all stretches of `SHINGLE` bytes, with repetitions."""
    raw = f" {text} ".encode().ljust(SHINGLE, b" ")
    data = np.frombuffer(raw, np.uint8).astype(np.uint64)
    n = len(data) - SHINGLE + 1
    joined = np.zeros(n, np.uint64)
    for i in range(SHINGLE):
        joined |= data[i : i + n] << np.uint64(8 * i)
    mixed = joined * np.uint64(0x9E3779B97F4A7C15)  # of five bytes no two are hashed alike
    return (mixed >> np.uint64(32)).astype(np.uint32)


def jaccard(a: str, b: str) -> float:
    """Shared shingles over all shingles, up to hashes that collide."""
    one, two = (np.unique(shingles(text)) for text in (a, b))
    both = len(np.intersect1d(one, two, assume_unique=True))
    return both / (len(one) + len(two) - both)


def permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Factors and summands of h -> a h + b mod 2^32, the same in every version of numpy."""
    rng = np.random.Generator(np.random.PCG64(0))
    a, b = (rng.integers(0, 2**32, HASHES, np.uint32) for _ in range(2))
    return a | np.uint32(1), b


def signatures(texts: Sequence[str], told: Told = quiet) -> Signatures:
    """Of texts by `clean.key`; independent of what else is in the list."""
    found = np.empty((len(texts), HASHES), np.uint32)
    factors, summands = permutations()
    for start in range(0, len(texts), AT_ONCE):
        parts = [shingles(text) for text in texts[start : start + AT_ONCE]]
        starts = np.cumsum([0, *map(len, parts[:-1])])
        h = np.concatenate(parts)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        for i, (a, b) in enumerate(zip(factors, summands, strict=True)):
            found[start : start + len(parts), i] = np.minimum.reduceat(h * a + b, starts)
        told("comparing prompts", start + len(parts), len(texts))
    return found


def rows_of(threshold: float) -> int:
    """How many hashes a band may hold, so that a pair of this Jaccard index shares one of all bands
    with probability `SURE`: 1 - (1 - j^rows)^(HASHES / rows). 5 from 0.76 on, 4 at 0.7, 3 at 0.6.
    The fewer, the more pairs have to be looked at."""
    for rows in range(5, 1, -1):
        if 1 - (1 - threshold**rows) ** (HASHES // rows) >= SURE:
            return rows
    return 1


def bands(found: Signatures, rows: int) -> Iterator[NDArray[np.uint64]]:
    """For each band one number a text; equal where all rows of the band are, but for collisions."""
    for start in range(0, HASHES - rows + 1, rows):
        joined = np.zeros(len(found), np.uint64)
        for row in found[:, start : start + rows].T:
            joined = (joined ^ row) * np.uint64(0x9E3779B97F4A7C15)
            joined ^= joined >> np.uint64(29)
        yield joined


def estimated(a: Signatures, b: Signatures) -> NDArray[np.float32]:
    """(m,): the share of equal hashes row by row, whose mean is the Jaccard index."""
    return (a == b).mean(1, dtype=np.float32)


def candidates(found: Signatures, rows: int) -> NDArray[np.int64]:
    """(m, 2): pairs (earlier, later) that share a band of so many rows, each once, sorted by the
    later one.

    Of texts that share a band each is paired with the first of them and with the one before it, so
    that their number grows with that of the texts even where all of them are alike.
    """
    pairs: list[NDArray[np.int64]] = []
    for values in bands(found, rows):
        order = np.argsort(values, kind="stable")
        again = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
        begins = np.ones(len(order), bool)
        begins[again] = False
        heads = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
        for other in (order[heads[again]], order[again - 1]):
            pairs.append(np.stack([other, order[again]], 1))
    joined = np.unique(np.concatenate(pairs), axis=0)
    return joined[np.lexsort((joined[:, 0], joined[:, 1]))]
