"""Batches of pictures: order, sizes, captions, repeats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from fewstep.data.batches import Batch
from fewstep.data.buckets import Size, fit
from fewstep.data.folder import Picture
from fewstep.data.picture_cache import PictureCache
from fewstep.data.picture_encoding import Stored
from fewstep.data.picture_samples import Described, PictureBatches, PictureSamples

SQUARE, WIDE = Size(4, 4), Size(2, 8)


def stored(cache: PictureCache, value: torch.Tensor, **key: object) -> Stored:
    cache.get(key, lambda: value)
    return Stored(key, tuple(value.shape))


def samples_in(
    directory: Path, rows: list[tuple[Size, list[int], int]], context: int | None = None
) -> PictureSamples:
    """Picture i is the number i everywhere: (size, length of each caption, repeats); a token of
    its caption j is j, and one of its context -j."""
    cache = PictureCache(directory)
    samples = PictureSamples(cache)
    for i, (size, lengths, repeats) in enumerate(rows):
        latent = stored(cache, torch.full((1, *size), float(i)), picture=i)
        described = []
        for j, length in enumerate(lengths):
            cond = stored(cache, torch.full((length, 2), float(j)), picture=i, caption=j)
            seen = None
            if context is not None:
                value = torch.full((length + context, 2), float(-j))
                seen = stored(cache, value, picture=i, context=j)
            described.append(Described(f"{i}#{j}", latent, cond, seen))
        picture = Picture(
            file=f"{i}.png", content=str(i), height=size.height, width=size.width,
            fit=fit(*size, [size]), captions=("x",) * len(lengths), repeats=repeats,
        )  # fmt: skip
        samples.add(picture, described)
    return samples


def pictures(batches: list[Batch]) -> list[int]:
    return [int(x.mean()) for batch in batches for x in batch.x0]


def test_every_picture_comes_equally_often_whatever_its_captions(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, [(SQUARE, [3] * k, 1) for k in (1, 2, 3, 7)])
    batches = PictureBatches(samples, batch_size=6, seed=0)
    seen = [i for step in range(20) for i in pictures(batches(step))]  # 30 epochs of 4
    assert Counter(seen) == dict.fromkeys(range(4), 30)
    for epoch in range(30):
        assert sorted(seen[4 * epoch : 4 * epoch + 4]) == [0, 1, 2, 3]


def test_captions_are_drawn_at_random_from_seed_picture_and_epoch(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, [(SQUARE, [3] * 3, 1), (SQUARE, [3], 1)])

    def drawn(seed: int) -> list[tuple[str, float]]:
        batches = PictureBatches(samples, batch_size=2, seed=seed)
        return [
            (name, tokens[0, 0].item())
            for step in range(300)
            for batch in batches(step)
            for name, tokens in zip(batch.ids, batch.cond.tokens, strict=True)
        ]

    found = drawn(0)
    assert found == drawn(0) != drawn(1)
    counts = Counter(caption for name, caption in found if name.startswith("0"))
    assert counts.total() == 300 and all(abs(n - 100) < 35 for n in counts.values())
    own = {name: caption for name, caption in found if name.startswith("0")}
    # the split and the size of a batch change no draw
    other = PictureBatches(samples, batch_size=5, seed=0, micro_batch=2)
    for step in range(100):
        for batch in other(step):
            for name, tokens in zip(batch.ids, batch.cond.tokens, strict=True):
                assert own.get(name, tokens[0, 0].item()) == tokens[0, 0].item()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_pictures_fill_a_large_batch_under_distinct_ids(tmp_path: Path, n: int) -> None:
    samples = samples_in(tmp_path, [(SQUARE, [3, 3], 1)] * n)
    (batch,) = PictureBatches(samples, batch_size=8, seed=0)(3)
    assert len(set(batch.ids)) == len(batch) == 8
    assert {name.split("@")[0] for name in batch.ids} == {str(i) for i in range(n)}


def test_repeats_weigh_pictures(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, [(SQUARE, [3], 1), (SQUARE, [3, 3], 3)])
    batches = PictureBatches(samples, batch_size=4, seed=0)
    for step in range(5):  # an epoch each
        found = batches(step)
        assert Counter(pictures(found)) == {0: 1, 1: 3}
        assert {name for b in found for name in b.ids} == {
            f"{name}@{step}" for name in ("0", "1", "1-1", "1-2")
        }


def test_a_batch_has_one_size_and_one_padded_length(tmp_path: Path) -> None:
    rows = [(size, [3, 40], 1) for size in (SQUARE, WIDE) for _ in range(6)]
    batches = PictureBatches(samples_in(tmp_path, rows, context=70), batch_size=12, seed=0)
    for step in range(6):
        found = batches(step)
        assert sum(map(len, found)) == 12
        for batch in found:
            assert batch.context is not None
            assert batch.x0.shape[1:] in {(1, 4, 4), (1, 2, 8)}
            lengths = {len(t) for t in batch.cond.tokens}
            alone = len(lengths) > 1 and min(Counter(map(len, batch.cond.tokens)).values()) == 1
            assert len(lengths) == 1 or alone  # a lone one joins the others of its size
            for name, x, cond, seen in zip(
                batch.ids, batch.x0, batch.cond.tokens, batch.context.tokens, strict=True
            ):
                assert name.split("@")[0] == str(int(x.mean()))
                assert seen.shape[0] == cond.shape[0] + 70
                assert seen[0, 0] == -cond[0, 0]


def test_lone_pictures_of_a_size_stay_alone(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, [(SQUARE, [3], 1), (WIDE, [3], 1), (WIDE, [40], 1)])
    found = PictureBatches(samples, batch_size=3, seed=0)(0)
    assert [tuple(b.x0.shape) for b in found] == [(2, 1, 2, 8), (1, 1, 4, 4)]
    assert all(batch.context is None for batch in found)
