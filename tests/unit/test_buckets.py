"""Bucket sizes and the crop of a picture, in closed form."""

from __future__ import annotations

import math

import pytest

from fewstep.data.buckets import Size, buckets, fit


@pytest.mark.parametrize(("size", "unit"), [(1024, 16), (512, 16), (768, 32), (64, 8), (1000, 8)])
def test_sizes_have_the_area_and_the_unit(size: int, unit: int) -> None:
    found = buckets(size, unit)
    assert Size(size, size) in found and len(set(found)) == len(found)
    for height, width in found:
        assert height % unit == width % unit == 0
        assert abs(height * width / size**2 - 1) <= unit / (2 * size)
        assert max(height, width) <= 4 * min(height, width)
        assert Size(width, height) in found


def test_sizes_by_hand() -> None:
    # shorts 64, 56, 48, 40 and longs 64, 4096 / 56 = 73.1, 85.3, 102.4 in multiples of 8
    by_hand = {(64, 64), (72, 56), (56, 72), (88, 48), (48, 88), (104, 40), (40, 104)}
    # 4096 / 32 = 128 is the last with a ratio of 4
    assert set(buckets(64, 8)) == by_hand | {(128, 32), (32, 128)}
    assert len(buckets(1024, 16)) == 17


def test_a_size_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="size must be a positive multiple of 16, got 1000"):
        buckets(1000, 16)


def test_fit_covers_and_crops_the_middle() -> None:
    sizes = buckets(64, 8)
    found = fit(height=100, width=200, sizes=sizes)  # ratio 2; 88 / 48 = 1.83, 104 / 40 = 2.6
    assert found.size == Size(48, 88)
    kept = 100 * 88 / 48
    assert found.box == pytest.approx(((200 - kept) / 2, 0, (200 + kept) / 2, 100))
    assert found.cropped == pytest.approx(1 - kept / 200)
    assert found.scale == pytest.approx(88 / kept) == pytest.approx(48 / 100)
    tall = fit(height=200, width=100, sizes=sizes)
    assert tall.size == Size(88, 48) and tall.cropped == pytest.approx(found.cropped)


def test_fit_is_nearest_in_ratio_and_exact_where_it_can() -> None:
    sizes = buckets(1024, 16)
    for size in sizes:
        exact = fit(3 * size.height, 3 * size.width, sizes)
        assert (exact.size, exact.cropped, exact.scale) == (size, 0, pytest.approx(1 / 3))
    for height, width in ((300, 451), (1000, 333), (20, 3000)):
        ratio = math.log(width / height)
        best = min(abs(math.log(s.width / s.height) - ratio) for s in sizes)
        chosen = fit(height, width, sizes).size
        assert abs(math.log(chosen.width / chosen.height) - ratio) == best
    # between 0.25 and 40 / 104: 0.314 lies nearer to the first by its distance, to the second by
    # its ratio (1.256 and 1.225 times)
    assert fit(height=1000, width=314, sizes=buckets(64, 8)).size == Size(104, 40)
    extreme = fit(height=20, width=3000, sizes=sizes)
    assert extreme.cropped == pytest.approx(1 - 20 * 4 / 3000)
