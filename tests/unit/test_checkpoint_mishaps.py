"""What a kill, a full disk or damage leaves of the checkpoints, and what is done with it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from tests.disk import small_disk
from tests.games import Game
from tests.unit.test_checkpoint import moved, names, save

from fewstep.runs import RunError
from fewstep.train import checkpoint


@pytest.fixture
def game() -> Game:
    return moved(Game(steps=2))


DAMAGE = {
    "missing file": lambda p: (p / "module.ema.safetensors").unlink(),
    "missing manifest": lambda p: (p / "manifest.json").unlink(),
    "truncated": lambda p: os.truncate(p / "optim.heads.safetensors", 100),
    "manifest is no JSON": lambda p: (p / "manifest.json").write_text("{"),
    "flipped bit": lambda p: flip(p / "module.heads.safetensors"),
    "state changed": lambda p: flip(p / "state.json", at=30),
    "other format": lambda p: (p / "state.json").write_text('{"format": 99}'),
}


def flip(path: Path, at: int = -2) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_trap31_damaged_is_named_and_ignored(tmp_path: Path, game: Game, damage: str) -> None:
    save(game, tmp_path, 1)
    DAMAGE[damage](save(game, tmp_path, 2))
    warnings: list[str] = []
    found = checkpoint.newest(tmp_path, warnings.append)
    assert found == tmp_path / "step_00000001"
    (warning,) = warnings
    assert "step_00000002 is ignored: " in warning
    save(game, tmp_path, 2)  # the run comes past the step again
    assert checkpoint.newest(tmp_path, pytest.fail) == tmp_path / "step_00000002"


@pytest.mark.fault(5)
@pytest.mark.parametrize("call", ["fsync", "write_text", "save_file", "rename"])
def test_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, game: Game, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    old = save(game, tmp_path, 1)
    before = {p: p.read_bytes() for p in old.iterdir()}

    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        match call:
            case "fsync":
                patch.setattr(os, "fsync", no_space)
            case "save_file":
                patch.setattr(checkpoint, "save_file", no_space)
            case _:
                patch.setattr(Path, call, no_space)
        with pytest.raises(RunError, match=r"could not save .*step_00000002: No space left"):
            save(game, tmp_path, 2, keep=1)
    assert names(tmp_path) == {"step_00000001", "latest"}
    assert {p: p.read_bytes() for p in old.iterdir()} == before
    assert checkpoint.newest(tmp_path, pytest.fail) == old


def damage(path: Path) -> None:
    file = path / "module.student.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_new_checkpoint_outlives_damaged_ones_of_later_steps(
    tmp_path: Path, game: Game, keep: int
) -> None:
    """Damage that no size tells: the run goes back to step 1 and comes past them again."""
    for step in (1, 3, 4):
        save(game, tmp_path, step, keep=3)
    for step in (3, 4):
        damage(tmp_path / f"step_{step:08d}")
    told: list[str] = []
    found = checkpoint.newest(tmp_path, told.append)
    assert found is not None and found.name == "step_00000001" and len(told) == 2
    new = save(game, tmp_path, 2, keep=keep)
    assert names(tmp_path) == {"latest", "step_00000002"} | ({found.name} if keep == 2 else set())
    assert checkpoint.newest(tmp_path, pytest.fail) == new


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_over(
    tmp_path: Path, game: Game
) -> None:
    damage(save(game, tmp_path, 1))
    with pytest.raises(RunError, match=r"none of the 1 checkpoints in .* is whole"):
        checkpoint.newest(tmp_path, lambda _: None)


@pytest.mark.fault(5)
def test_disk_that_is_really_full(tmp_path: Path, game: Game) -> None:
    size = 0
    with small_disk(tmp_path / "disk", "512k") as disk:
        with pytest.raises(RunError, match="could not save"):
            for size in range(1, 100):
                save(game, disk, size, keep=100)
        assert 1 < size < 99
        found = checkpoint.newest(disk, pytest.fail)
        assert found is not None and found.name == f"step_{size - 1:08d}"
        assert json.loads((found / "state.json").read_text())["step"] == size - 1
        assert not list(disk.glob(".step_*"))
