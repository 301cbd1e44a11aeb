"""Checkpoints are written whole or not at all, checked when read, and hold no pickle."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.games import Game, assert_same
from torch import nn

from fewstep.nets.ema import Ema
from fewstep.runs import RunError
from fewstep.train import checkpoint
from fewstep.train.checkpoint import Progress


@pytest.fixture
def game() -> Game:
    """A game whose optimizers have state."""
    return moved(Game(steps=2))


def moved(game: Game) -> Game:
    from fewstep.train.step import run_step

    for step in range(2):
        assert run_step(game.method, game.batches(step), game.optims, {}, seed=0, step=step) is None
    return game


def save(game: Game, folder: Path, step: int, keep: int = 2) -> Path:
    progress = Progress(step=step, skipped=3, skipped_in_a_row=1)
    return checkpoint.save(folder, progress, game.method.modules, game.optims, keep=keep)


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_load_gives_back_every_bit(tmp_path: Path, game: Game) -> None:
    path = save(game, tmp_path, 2)
    other = Game(steps=2)
    progress = checkpoint.load(path, other.method.modules, other.optims)
    assert progress == Progress(step=2, skipped=3, skipped_in_a_row=1)
    assert_same(game.state(), other.state())
    assert other.optims["student"].updates == 1
    before = other.state()
    with torch.no_grad():
        for p in game.method.student.parameters():
            p.zero_()
    assert_same(before, other.state())


def test_trap30_one_file_for_each_module_and_nothing_by_pickle(tmp_path: Path, game: Game) -> None:
    path = save(game, tmp_path, 2)
    assert names(path) == {
        "state.json", "manifest.json",
        "module.student.safetensors", "module.heads.safetensors", "module.ema.safetensors",
        "optim.student.safetensors", "optim.heads.safetensors",
    }  # fmt: skip
    assert (tmp_path / "latest").read_text() == "step_00000002\n"


def adapted(frozen: float, trained: float) -> dict[str, nn.Module]:
    """A module of which half is frozen, and its average."""
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module.get_submodule("0").requires_grad_(False)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(trained if p.requires_grad else frozen)
    return {"student": module, "ema": Ema(module, decay=0.5)}


def test_what_is_frozen_is_not_written_and_not_read(tmp_path: Path) -> None:
    before = adapted(frozen=1.0, trained=2.0)
    ema = before["ema"]
    assert isinstance(ema, Ema)
    with torch.no_grad():
        before["student"].get_parameter("1.weight").fill_(4.0)
    ema.update(before["student"])
    path = checkpoint.save(tmp_path, Progress(step=1), before, {})
    assert load_file(path / "module.student.safetensors").keys() == {"1.weight", "1.bias"}
    held = load_file(path / "module.ema.safetensors")
    assert held.keys() == {"module.1.weight", "module.1.bias", "updates"}
    after = adapted(frozen=7.0, trained=8.0)
    checkpoint.load(path, after, {})
    for name, module in after.items():
        base = "module.0.weight" if name == "ema" else "0.weight"
        assert (module.get_parameter(base) == 7).all()
    assert (after["student"].get_parameter("1.weight") == 4).all()
    assert (after["ema"].get_parameter("module.1.weight") == 3).all()
    assert (after["ema"].get_parameter("module.1.bias") == 2).all()


def test_a_checkpoint_of_another_frozen_part_is_refused(tmp_path: Path) -> None:
    whole = adapted(frozen=1.0, trained=2.0)
    path = checkpoint.save(tmp_path, Progress(step=1), whole, {})
    other = adapted(frozen=1.0, trained=2.0)
    other["student"].requires_grad_(True)
    with pytest.raises(RunError, match=r"'0.bias' of student is only in the method"):
        checkpoint.load(path, other, {})


def test_trap30_another_structure_is_refused(tmp_path: Path, game: Game) -> None:
    path = save(game, tmp_path, 2)
    less = {k: v for k, v in game.method.modules.items() if k != "ema"}
    with pytest.raises(RunError, match="the module 'ema' is only in the checkpoint"):
        checkpoint.load(path, less, game.optims)
    with pytest.raises(RunError, match="the optim 'other' is only in the method"):
        optims = game.optims | {"other": game.optims["heads"]}
        checkpoint.load(path, game.method.modules, optims)
    modules = dict(game.method.modules) | {"heads": nn.Linear(2, 2)}
    with pytest.raises(RunError, match="does not belong to this experiment"):
        checkpoint.load(path, modules, game.optims)
    with pytest.raises(RunError, match="optimizer state"):
        swapped = {"heads": game.optims["student"], "student": game.optims["heads"]}
        checkpoint.load(path, game.method.modules, swapped)


def test_tied_weights(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
        module[1].weight = module[0].weight
        return module

    module, other = tied(), tied()
    path = checkpoint.save(tmp_path, Progress(step=1), {"m": module}, {})
    checkpoint.load(path, {"m": other}, {})
    assert torch.equal(module[0].weight, other[1].weight)


def test_trap31_rotation_keeps_the_newest_whole_ones(tmp_path: Path, game: Game) -> None:
    save(game, tmp_path, 1)
    save(game, tmp_path, 2)
    (tmp_path / "step_00000002" / "state.json").unlink()
    save(game, tmp_path, 3)  # 2 is broken and does not count
    assert {"step_00000001", "step_00000003"} <= names(tmp_path)
    save(game, tmp_path, 4)
    assert names(tmp_path) == {"step_00000003", "step_00000004", "latest"}


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


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path, pytest.fail) is None
    assert checkpoint.newest(tmp_path / "absent", pytest.fail) is None


def test_trap31_killed_at_every_boundary(tmp_path: Path, game: Game) -> None:
    """A child process dies without a word at each call that touches the disk, one after another."""
    reference = Game(steps=2)
    save(reference, tmp_path, 0)
    save(reference, tmp_path, 1)
    survived = boundary = 0
    while not survived:
        folder = tmp_path / f"killed_{boundary}"
        shutil.copytree(tmp_path / "step_00000001", folder / "step_00000001")
        shutil.copytree(tmp_path / "step_00000000", folder / "step_00000000")
        child = os.fork()
        if child == 0:
            try:
                die_at(boundary)
                save(game, folder, 2)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        survived = os.waitstatus_to_exitcode(status) == 0
        warnings: list[str] = []
        found = checkpoint.newest(folder, warnings.append)
        assert found is not None
        loaded = Game(steps=2)
        step = checkpoint.load(found, loaded.method.modules, loaded.optims).step
        assert step in (1, 2)
        assert_same(loaded.state(), (game if step == 2 else reference).state())
        unfinished = list(folder.glob(".step_*"))
        assert [str(p) in w for p, w in zip(unfinished, warnings, strict=True)] == [True] * len(
            unfinished
        )
        save(game, folder, 3)  # goes on as if nothing had been, and clears up
        assert not [n for n in names(folder) if n.startswith(".step")]
        boundary += 1
    assert step == 2
    assert boundary > 20


def die_at(boundary: int) -> None:
    """In this process, end without cleaning up at the boundary-th call that touches the disk."""
    calls = 0

    def counted(function):  # type: ignore[no-untyped-def]
        def wrapper(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal calls
            if calls == boundary:
                os._exit(9)
            calls += 1
            return function(*args, **kwargs)

        return wrapper

    checkpoint.save_file = counted(checkpoint.save_file)
    shutil.rmtree = counted(shutil.rmtree)
    for name in ("mkdir", "rename", "replace", "write_text", "write_bytes"):
        setattr(Path, name, counted(getattr(Path, name)))
    os.fsync = counted(os.fsync)


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 512 KiB, where the system lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting needs root; the test with a planted error covers the same ground")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_that_is_really_full(small_disk: Path, game: Game) -> None:
    size = 0
    with pytest.raises(RunError, match="could not save"):
        for size in range(1, 100):
            save(game, small_disk, size, keep=100)
    assert 1 < size < 99
    found = checkpoint.newest(small_disk, pytest.fail)
    assert found is not None and found.name == f"step_{size - 1:08d}"
    assert json.loads((found / "state.json").read_text())["step"] == size - 1
    assert not list(small_disk.glob(".step_*"))
