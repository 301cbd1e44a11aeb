"""The cache of single latents and conditions: found by key, never damaged, never another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.data.picture_cache import PictureCache
from fewstep.errors import UserError

KEY = {"model": "m", "prompt": "a cat"}


def never() -> Tensor:
    raise AssertionError("it should be in the cache")


def test_a_tensor_is_made_once_for_its_key(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path / "c")
    value = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    assert torch.equal(cache.get(KEY, lambda: value), value)
    assert torch.equal(PictureCache(tmp_path / "c").get(dict(reversed(KEY.items())), never), value)
    other = {**KEY, "model": "n"}
    assert torch.equal(cache.get(other, lambda: value + 1), value + 1)
    assert torch.equal(cache.get(KEY, never), value)
    assert sorted(p.suffix for p in (tmp_path / "c").iterdir()) == [".safetensors"] * 2


@pytest.mark.fault(6, 7)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other key"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    cache = PictureCache(tmp_path)
    cache.get(KEY, lambda: torch.ones(100))
    path = cache.path(KEY)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-7] ^= 1
    elif damage == "other key":
        data = data.replace(b"a cat", b"a dog")
    path.write_bytes({"cut": data[:-50], "empty": b""}.get(damage, data))
    with pytest.raises(UserError, match=f"{path.name} is damaged .*; delete it and run"):
        cache.get(KEY, never)
    path.unlink()
    assert torch.equal(cache.get(KEY, lambda: torch.ones(100)), torch.ones(100))


@pytest.mark.fault(8)
def test_what_is_not_finite_or_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path)
    with pytest.raises(UserError, match=r"is not finite .*a cat"):
        cache.get(KEY, lambda: torch.tensor([1.0, torch.nan]))
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be kept in .*; set data.cache"):
        PictureCache(tmp_path / "file" / "c")
