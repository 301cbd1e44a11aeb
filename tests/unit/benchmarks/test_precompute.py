"""The parts of the precompute study that judge: what differs, what a page and a record say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.precompute import ratio
from benchmarks.precompute_workers import difference


def test_difference_names_files_that_differ_or_are_missing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        (directory / "leases").mkdir(parents=True)
        (directory / "same").write_bytes(b"same")
    (one / "more").write_bytes(b"")
    (one / "other").write_bytes(b"a")
    (two / "other").write_bytes(b"b")
    (two / "leases" / "x").write_bytes(b"b")
    assert difference(one, two) == difference(two, one) == ["more", "other"]


def test_ratio_is_of_pairs() -> None:
    found = ratio([2.0, 8.0, 2.0, 8.0, 4.0], [1.0, 4.0, 1.0, 4.0, 2.0])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    logs = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = ratio(np.exp(logs).tolist(), [1.0] * 5)
    half = 2.776445 * logs.std(ddof=1) / 5**0.5
    assert found.value == pytest.approx(np.exp(0.3))
    assert found.high == pytest.approx(np.exp(0.3 + half), rel=1e-4)
