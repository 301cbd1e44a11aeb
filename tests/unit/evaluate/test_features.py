"""Features are computed once and kept under the hash of picture and extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fewstep.errors import UserError
from fewstep.evaluate.features import (
    FeatureCache,
    PixelExtractor,
    ShapesExtractor,
    image_hashes,
    make_extractors,
    parse_extractor,
)
from fewstep.evaluate.gallery import eight_bit
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.world import Shapes

CPU = torch.device("cpu")
WORLD = Shapes()
PROMPTS = WORLD.prompts("test", 6)
IMAGES = WORLD.truth(PROMPTS, range(6))


class Counted(PixelExtractor):
    """Counts the pictures that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        self.seen += len(images)
        return super().__call__(images)


def test_a_picture_is_seen_once(tmp_path: Path) -> None:
    extractor = Counted()
    cache = FeatureCache(tmp_path, extractor)
    first = cache(IMAGES[:4])
    assert extractor.seen == 4 and np.array_equal(first, PixelExtractor()(IMAGES[:4]))
    both = cache(IMAGES[2:])
    assert extractor.seen == 6 and np.array_equal(both[:2], first[2:])
    cache.flush()
    again = Counted()
    kept = FeatureCache(tmp_path, again)(IMAGES.flip(0))
    assert again.seen == 0 and np.array_equal(kept[::-1], np.concatenate([first, both[2:]]))


def test_what_was_not_flushed_is_computed_again(tmp_path: Path) -> None:
    FeatureCache(tmp_path, Counted())(IMAGES)
    extractor = Counted()
    FeatureCache(tmp_path, extractor)(IMAGES)
    assert extractor.seen == 6 and not list(tmp_path.iterdir())


def test_the_hash_is_of_the_eight_bit_picture() -> None:
    other = IMAGES.clone()
    other[0, 0, 0, 0] = (other[0, 0, 0, 0] + 0.5) % 1
    rounded = eight_bit(IMAGES)
    assert (image_hashes(rounded + 0.4 / 255 * (rounded < 0.5)) == image_hashes(IMAGES)).all()
    changed = (image_hashes(other) != image_hashes(IMAGES)).any(1)
    assert changed.tolist() == [True] + [False] * 5
    assert (image_hashes(IMAGES[:1].flip(2)) != image_hashes(IMAGES[:1])).any()
    wide, tall = torch.ones(1, 3, 4, 8), torch.ones(1, 3, 8, 4)  # of the same bytes
    assert (image_hashes(wide) != image_hashes(tall)).any()


def test_features_of_another_extractor_are_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PixelExtractor())
    cache(IMAGES)
    cache.flush()
    shapes = ShapesExtractor()
    (tmp_path / cache.folder.name).rename(tmp_path / f"shapes-{shapes.fingerprint}")
    with pytest.raises(UserError, match=r"holds features of pixels-area16, not of shapes-"):
        FeatureCache(tmp_path, shapes)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PixelExtractor())
    cache(IMAGES)
    cache.flush()
    [path] = cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"is damaged .* delete it, it is made again"):
        FeatureCache(tmp_path, PixelExtractor())


def test_features_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    class Broken(PixelExtractor):
        def __call__(self, images: Pixels) -> NDArray[np.float32]:
            return np.full((len(images), 3), np.nan, np.float32)

    with pytest.raises(UserError, match="the extractor pixels gives features that are not finite"):
        FeatureCache(tmp_path, Broken())(IMAGES)


def test_shapes_is_the_network_of_the_world() -> None:
    np.testing.assert_allclose(ShapesExtractor()(IMAGES), WORLD.features(IMAGES), rtol=1e-6)


def test_pixels_see_what_is_where() -> None:
    found = PixelExtractor()(
        torch.ones(1, 3, 64, 48) * torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    )
    assert found.shape == (1, 3 * 16 * 16)
    np.testing.assert_allclose(found.reshape(3, -1).mean(1), [1, 0, -1], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dino", "there is no extractor 'dino'; there are shapes, pixels"),
        ("shapes:x", "the extractor shapes has weights of its own; leave ':x' out"),
        ("clip:", "names no weights behind the colon"),
    ],
)
def test_unknown_extractors(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_extractor(text)


def test_an_extractor_is_named_once() -> None:
    with pytest.raises(UserError, match="the extractor pixels is named twice"):
        make_extractors(["pixels", "shapes", "pixels"], CPU)


def test_missing_weights_say_what_to_give(tmp_path: Path) -> None:
    for name in ("clip", "dinov2"):
        with pytest.raises(UserError, match=r"cannot be loaded .* give a directory that holds"):
            make_extractors([f"{name}:{tmp_path}"], CPU)
    with pytest.raises(UserError, match=r"pip install 'fewstep\[eval\]'|weights cannot be loaded"):
        make_extractors([f"inception:{tmp_path / 'none.pth'}"], CPU)
