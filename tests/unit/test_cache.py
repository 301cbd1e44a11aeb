"""A cache of samples: another key is refused; damage is named and made anew, and nothing else."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.test_precompute import CFG, PROMPTS, ToyFamily, made

from fewstep.data import cache, precompute
from fewstep.data.audit import stats, verify
from fewstep.data.cache import CACHE
from fewstep.data.index import INDEX
from fewstep.data.shards import commit, pack, read_shard, shard_path
from fewstep.data.teacher import TeacherSamples
from fewstep.errors import UserError
from fewstep.flow.sigmas import grid
from fewstep.rng import Rng


@pytest.mark.fault(16)
def test_trap35_another_key_is_refused_field_by_field(tmp_path: Path) -> None:
    made(CFG, ToyFamily(), PROMPTS, tmp_path, directory=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(UserError) as caught:
        changed = replace(CFG, guidance=4.0)
        made(changed, ToyFamily(1), PROMPTS, tmp_path, directory=tmp_path)
    message = str(caught.value)
    assert "guidance: 2.5 there, 4.0 here; model: 'toy 0' there, 'toy 1' here" in message
    assert "seed" not in message
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/nothing"])
def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    for where in ({"root": tmp_path / place}, {"root": tmp_path, "directory": tmp_path / place}):
        with pytest.raises(UserError, match=r"cannot be kept in .*; set data\.cache"):
            made(CFG, ToyFamily(), PROMPTS, **where)


def test_a_shard_without_its_json_is_made_again(tmp_path: Path) -> None:
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = shard_path(found.directory, 1)
    before = path.read_bytes()
    path.write_bytes(before[:50])
    path.with_suffix(".json").unlink()
    made(CFG, ToyFamily(), PROMPTS, tmp_path)
    assert path.read_bytes() == before


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[:-5] + bytes([data[-5] ^ 4]) + data[-4:],
    "zeros": lambda data: bytes(len(data)),
    "truncated": lambda data: data[:-1],
    "empty": lambda data: b"",
}


@pytest.mark.fault(6, 7)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("small", [True, False])
def test_trap36_a_damaged_shard_is_named_set_aside_and_alone_made_anew(
    tmp_path: Path, damage: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:  # then a few rows are looked at: here the first and the last
        monkeypatch.setattr(cache, "SMALL", 0)
        monkeypatch.setattr(cache, "LOOKS", 2)
    where = made(CFG, ToyFamily(), PROMPTS, tmp_path).directory
    path = shard_path(where, 1)
    before = {p: p.read_bytes() for p in where.iterdir() if p.is_file()}
    path.write_bytes(DAMAGE[damage](before[path]))
    broken = path.read_bytes()
    if (
        damage == "flipped" and not small
    ):  # between the rows that are looked at: met when it is read
        with pytest.raises(UserError, match=r"is damaged: bytes .* precompute verify .*quarantine"):
            made(CFG, ToyFamily(), PROMPTS, tmp_path).take(range(10))
        assert verify(where, quarantine=True).left == []
    family = ToyFamily()
    found = made(CFG, family, PROMPTS, tmp_path)
    if damage != "flipped" or small:
        [note] = found.notes
        assert note.startswith("shard_00001.safetensors was damaged (")
    assert set(family.encoded) == {"", *PROMPTS[4:8]}
    assert {p: p.read_bytes() for p in where.iterdir() if p.is_file()} == before
    assert (where / "quarantine/shard_00001.1.safetensors").read_bytes() == broken
    assert made(CFG, ToyFamily(), PROMPTS, tmp_path).notes == ()


@pytest.mark.fault(7)
def test_a_shard_whose_json_is_missing_is_made_anew(tmp_path: Path) -> None:
    """As after a kill between the two moves into the quarantine."""
    where = made(CFG, ToyFamily(), PROMPTS, tmp_path).directory
    path = shard_path(where, 2).with_suffix(".json")
    before = path.read_bytes()
    path.unlink()
    assert verify(where).missing == 1
    made(CFG, ToyFamily(), PROMPTS, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.fault(6)
def test_what_is_made_anew_with_other_rounding_is_told_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another kind of machine than the one that is gone."""
    where = made(CFG, ToyFamily(), PROMPTS, tmp_path).directory
    shard_path(where, 1).write_bytes(b"")
    real = precompute.draw

    def draw(*given: Any) -> Any:
        rows, x0, cond = real(*given)
        return rows, x0 + 1e-6, cond

    monkeypatch.setattr(precompute, "draw", draw)
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    assert "rounds otherwise than what was there" in found.notes[1]
    found.take(range(10))
    assert made(CFG, ToyFamily(), PROMPTS, tmp_path).notes == ()


def test_all_compute_as_the_first_one_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = precompute.draw, list[tuple[int, int]]()

    def draw(cfg: TeacherSamples, *more: Any) -> Any:
        seen.append((cfg.batch, torch.get_num_threads()))
        return real(cfg, *more)

    monkeypatch.setattr(precompute, "draw", draw)
    torch.set_num_threads(2)
    try:
        first = made(CFG, ToyFamily(), PROMPTS, tmp_path)
        torch.set_num_threads(1)
        shard_path(first.directory, 0).unlink()
        found = made(replace(CFG, batch=1), ToyFamily(), PROMPTS, tmp_path)
        assert seen == [(4, 2)] * 4 and torch.get_num_threads() == 1
        assert "were begun 4 at a time on 2 threads" in found.notes[0]
    finally:
        torch.set_num_threads(1)


def test_a_few_that_are_not_finite_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(CFG, ToyFamily(), PROMPTS, tmp_path / "whole")
    real = precompute.draw

    def draw(cfg: Any, family: Any, rows: Any, *more: Any) -> Any:
        rows, x0, cond = real(cfg, family, rows, *more)
        if rows[1].prompt == PROMPTS[5]:
            x0[1, 0, 0, 0] = torch.nan
        return rows, x0, cond

    monkeypatch.setattr(precompute, "draw", draw)
    for rejects in (0.0, 0.2):  # none and less than one of four
        with pytest.raises(UserError, match=r"sample 5 .* is not finite, and 0\.?2? of a file"):
            made(replace(CFG, rejects=rejects), ToyFamily(), PROMPTS, tmp_path / f"{rejects}")
    found = made(replace(CFG, rejects=0.25), ToyFamily(), PROMPTS, tmp_path / "some")
    others = [i for i in range(10) if i != 5]
    assert found.ids == [whole.ids[i] for i in others]
    (x0, cond), (all_x0, all_cond) = found.take(range(9)), whole.take(others)
    assert torch.equal(x0, all_x0)
    assert all(torch.equal(a, b) for a, b in zip(cond.tokens, all_cond.tokens, strict=True))
    assert found.notes == (
        f"1 of 10 teacher samples are left out, the first for the prompt {PROMPTS[5]!r}: its "
        "latent is not finite",
    )
    assert any(line.startswith(f"left out: {whole.ids[5]}") for line in stats(found.directory))


def test_stats_of_whatever_is_there(tmp_path: Path) -> None:
    where = made(CFG, ToyFamily(), PROMPTS, tmp_path).directory
    lease = where / "leases" / "shard_00001.lease"
    lease.write_text("of one who died after its commit")
    assert not any("being made" in line for line in stats(where))
    shard_path(where, 0).unlink()
    assert any("latents 2x4x4, of 6" in line for line in stats(where))
    for path in where.glob("shard_*.safetensors"):
        path.write_bytes(b"")
    assert "10 of 10 samples in 3 of 3 files" in stats(where)[0]
    assert [p.name for p in verify(where, quarantine=True).left] == ["shard_00001.safetensors"]
    (where / CACHE).write_text("{}")
    with pytest.raises(UserError, match="is not that of teacher samples"):
        stats(where)


@pytest.mark.fault(6)
def test_a_row_that_is_damaged_while_it_is_read_is_named(tmp_path: Path) -> None:
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = shard_path(found.directory, 1)
    at = read_shard(path).rows[2].x0
    with path.open("r+b") as file:
        file.seek(at.begin + 3)
        last = file.read(1)[0]
        file.seek(at.begin + 3)
        file.write(bytes([last ^ 4]))
    found.take([4, 5, 7])
    where = rf"sample {found.ids[6]} is damaged: bytes {at.begin} to {at.end} of .*shard_00001"
    with pytest.raises(UserError, match=where):
        found.take([5, 6])
    path.unlink()
    again = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    assert torch.equal(again.take([6])[0], made(CFG, ToyFamily(), PROMPTS, tmp_path).take([6])[0])


def test_a_damaged_index_is_made_again_of_what_is_there(tmp_path: Path) -> None:
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = found.directory / INDEX
    before = path.read_bytes()
    for damage in DAMAGE.values():
        path.write_bytes(damage(before))
        family = ToyFamily()
        again = made(CFG, family, PROMPTS, tmp_path)
        assert path.read_bytes() == before and not family.encoded
        assert again.ids == found.ids


def test_damaged_json_is_found_where_it_is_read(tmp_path: Path) -> None:
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = shard_path(found.directory, 0).with_suffix(".json")
    before = path.read_bytes()
    for damaged in (b"{", before.replace(b"a red circle", b"a red cycles")):
        path.write_bytes(damaged)
        assert list(verify(found.directory).damaged) == [path.with_suffix(".safetensors")]
        (found.directory / INDEX).unlink()  # then the JSON is what there is
        [note] = made(CFG, ToyFamily(), PROMPTS, tmp_path).notes
        assert "shard_00000.json: it" in note and path.read_bytes() == before
    (found.directory / CACHE).write_text("{")
    with pytest.raises(UserError, match=r"cache\.json is not JSON"):
        made(CFG, ToyFamily(), PROMPTS, tmp_path)


def test_the_index_says_where_everything_lies(tmp_path: Path) -> None:
    """Its byte ranges hold what safetensors reads, and its seeds are those of the noise."""
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    table = pq.read_table(found.directory / INDEX).to_pylist()
    assert [row["prompt"] for row in table] == PROMPTS
    for position, row in enumerate(table):
        path = shard_path(found.directory, row["shard"])
        stored, data = load_file(path), path.read_bytes()
        assert (row["shard"], row["row"]) == divmod(position, CFG.shard)
        for name, of in (("x0", stored["x0"][row["row"]]), ("tokens", None)):
            part = data[row[f"{name}_begin"] : row[f"{name}_end"]]
            assert zlib.crc32(part) == row[f"{name}_crc32"]
            if of is not None:
                assert part == of.numpy().tobytes()
        x0, cond = found.take([position])
        assert torch.equal(x0[0], stored["x0"][row["row"]])
        assert cond.tokens[0].numpy().tobytes() in stored["tokens"].numpy().tobytes()
        noise = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(row["seed"]))
        assert torch.equal(noise, Rng(CFG.seed, 0, "teacher", [row["id"]]).randn(2, 4, 4)[0])
        assert row["teacher"] == "toy 0" and row["length"] == len(cond.tokens[0])


def test_texts_may_be_read_live(tmp_path: Path) -> None:
    kept = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    family = ToyFamily()
    live = made(replace(CFG, texts="live"), family, PROMPTS, tmp_path)
    assert live.directory != kept.directory and live.lengths == kept.lengths
    assert set(load_file(shard_path(live.directory, 0))) == {"x0"}
    family.encoded.clear()
    (a, read), (b, stored) = live.take([3, 7]), kept.take([3, 7])
    assert torch.equal(a, b) and family.encoded == [PROMPTS[3], PROMPTS[7]]
    assert all(torch.equal(x, y) for x, y in zip(read.tokens, stored.tokens, strict=True))


def test_another_drawing_of_the_same_shard_is_refused(tmp_path: Path) -> None:
    """Machines that round otherwise should not share a folder in silence."""
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    path = shard_path(found.directory, 0)
    rows = [found.row(i) for i in range(4)]
    x0, cond = found.take(range(4))
    data, shard = pack(rows, x0, cond, texts=True)
    assert commit(path, data, shard) is False
    data, shard = pack(rows, x0 + 1e-6, cond, texts=True)
    with pytest.raises(UserError, match=r"drawn shard_00000\.safetensors differently"):
        commit(path, data, shard)
    assert verify(found.directory).finished == 3


def test_key_file_is_readable(tmp_path: Path) -> None:
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    key = json.loads((found.directory / CACHE).read_bytes())
    assert key["guidance"] == 2.5 and key["size"] == [64, 64] and key["model"] == "toy 0"
    assert key["sigmas"] == list(grid(3, 3.0))
