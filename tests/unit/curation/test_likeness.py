"""Shingles, signatures and candidates against sets, probabilities and another implementation."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fewstep.curation.likeness import (
    HASHES,
    SURE,
    candidates,
    estimated,
    jaccard,
    rows_of,
    shingles,
    signatures,
)

LETTERS = "abcdefghij klmnop qrstuv"


def texts(n: int, seed: int = 0, length: int = 120) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(LETTERS, k=length)) for _ in range(n)]


def sets(text: str) -> set[bytes]:
    raw = f" {text} ".encode().ljust(5)
    return {raw[i : i + 5] for i in range(len(raw) - 4)}


def changed(text: str, letters: int, seed: int) -> str:
    draw = random.Random(seed)
    found = list(text)
    for i in draw.sample(range(len(found)), letters):
        found[i] = "z"
    return "".join(found)


@pytest.mark.parametrize("text", ["", "a", "\u732b", "abc abc abc abc", *texts(3)])
def test_jaccard_is_that_of_sets(text: str) -> None:
    for other in (text, text + "x", "abc", changed(text + "abcdefghijk", 4, 1)):
        one, two = sets(text), sets(other)
        assert jaccard(text, other) == pytest.approx(len(one & two) / len(one | two))
    assert len(np.unique(shingles(text))) == len(sets(text))


def test_estimates_are_unbiased_and_those_of_minhash() -> None:
    """The share of equal hashes has mean j and variance j (1 - j) / 80; so has datasketch's."""
    datasketch = pytest.importorskip("datasketch")
    first = texts(300)
    second = [changed(text, 5, i) for i, text in enumerate(first)]
    exact = np.array([jaccard(a, b) for a, b in zip(first, second, strict=True)])
    own = estimated(signatures(first), signatures(second))

    def theirs(text: str) -> object:
        found = datasketch.MinHash(num_perm=HASHES)
        found.update_batch(sorted(sets(text)))
        return found

    library = [theirs(a).jaccard(theirs(b)) for a, b in zip(first, second, strict=True)]
    spread = np.sqrt(exact * (1 - exact) / (HASHES))
    for found in (own, np.array(library)):
        z = (found - exact) / spread
        assert abs(z.mean()) < 4 / np.sqrt(len(z)) and 0.85 < z.std() < 1.15


def test_a_signature_depends_on_its_text_alone() -> None:
    some = texts(5000, length=20)
    whole = signatures(some)
    assert np.array_equal(whole[4500:4510], signatures(some[4500:4510]))
    assert np.array_equal(signatures(["a red bus"])[0, :3], [138293824, 627641756, 1288455459])


def test_candidates_hold_what_is_alike_and_grow_with_the_texts_alone() -> None:
    first = texts(400)
    second = [changed(text, 2, i) for i, text in enumerate(first)]
    likely = [(i, i + 400) for i, (a, b) in enumerate(zip(first, second, strict=True))
              if jaccard(a, b) >= 0.8]  # fmt: skip
    pairs = candidates(signatures(first + second), rows=5)
    there = set(map(tuple, pairs.tolist()))
    assert len(likely) > 300 and len(there & set(likely)) >= 0.99 * len(likely)
    assert len(there) == len(pairs) < 2 * len(likely)
    assert (pairs[:, 0] < pairs[:, 1]).all() and (np.diff(pairs[:, 1]) >= 0).all()
    same = candidates(signatures(["a red bus"] * 300), rows=5)
    assert len(same) == 299 + 298  # with the first, and with the one before
    assert candidates(signatures(texts(1)), rows=5).shape == (0, 2)


@pytest.mark.parametrize(("threshold", "rows", "letters"), [(0.8, 5, 2), (0.7, 4, 4), (0.5, 2, 8)])
def test_bands_find_what_is_barely_alike(threshold: float, rows: int, letters: int) -> None:
    """Of pairs within 0.05 above a threshold no fewer than 97 % share a band of the rows for it."""
    assert rows_of(threshold) == rows
    assert 1 - (1 - threshold**rows) ** (HASHES // rows) >= SURE
    first = texts(1500)
    second = [changed(text, letters, i) for i, text in enumerate(first)]
    alike = {(i, i + 1500) for i, (a, b) in enumerate(zip(first, second, strict=True))
             if threshold <= jaccard(a, b) < threshold + 0.05}  # fmt: skip
    found = set(map(tuple, candidates(signatures(first + second), rows).tolist()))
    assert len(alike) > 100 and len(found & alike) >= 0.97 * len(alike)
