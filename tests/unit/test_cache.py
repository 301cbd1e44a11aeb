"""A cache of samples: another key is refused, damage is named, what is unfinished is made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.test_precompute import CFG, PROMPTS, ToyFamily

from fewstep.data.cache import CACHE, shard_path
from fewstep.data.precompute import precompute
from fewstep.errors import UserError
from fewstep.flow.sigmas import grid


@pytest.mark.fault(16)
def test_trap35_another_key_is_refused_field_by_field(tmp_path: Path) -> None:
    precompute(CFG, ToyFamily(), PROMPTS, tmp_path, directory=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        changed = replace(CFG, guidance=4.0)
        precompute(changed, ToyFamily(1), PROMPTS, tmp_path, directory=tmp_path)
    message = str(caught.value)
    assert "guidance: 2.5 there, 4.0 here; model: 'toy 0' there, 'toy 1' here" in message
    assert "seed" not in message
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/nothing"])
def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    for where in ({"root": tmp_path / place}, {"root": tmp_path, "directory": tmp_path / place}):
        with pytest.raises(UserError, match=r"cannot be kept in .*; set data\.cache"):
            precompute(CFG, ToyFamily(), PROMPTS, **where)


def test_a_shard_without_its_json_is_made_again(tmp_path: Path) -> None:
    cache = precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = shard_path(cache.directory, 1)
    before = path.read_bytes()
    path.write_bytes(before[:50])
    path.with_suffix(".json").unlink()
    precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.fault(6, 7)
@pytest.mark.parametrize("damage", ["flipped", "zeros", "truncated", "empty"])
def test_trap36_a_damaged_shard_is_named_not_used(tmp_path: Path, damage: str) -> None:
    cache = precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = shard_path(cache.directory, 1)
    data = path.read_bytes()
    path.write_bytes(
        {
            "flipped": data[:-5] + bytes([data[-5] ^ 4]) + data[-4:],
            "zeros": data[:-32] + bytes(32),
            "truncated": data[:-1],
            "empty": b"",
        }[damage]
    )
    with pytest.raises(UserError, match=r"shard_00001\.safetensors is damaged .* delete .*json"):
        precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    path.with_suffix(".json").unlink()  # what the message says
    precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    assert path.read_bytes() == data


def test_damaged_json_is_named(tmp_path: Path) -> None:
    cache = precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    shard_path(cache.directory, 0).with_suffix(".json").write_text('{"rows": 3')
    with pytest.raises(UserError, match=r"shard_00000\.json is damaged"):
        precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    (cache.directory / CACHE).write_text("{")
    with pytest.raises(UserError, match=r"cache\.json is not JSON"):
        precompute(CFG, ToyFamily(), PROMPTS, tmp_path)


def test_key_file_is_readable(tmp_path: Path) -> None:
    cache = precompute(CFG, ToyFamily(), PROMPTS, tmp_path)
    key = json.loads((cache.directory / CACHE).read_bytes())
    assert key["guidance"] == 2.5 and key["size"] == [64, 64] and key["model"] == "toy 0"
    assert key["sigmas"] == list(grid(3, 3.0))
