"""Checkpoints are written whole, checked when read, and hold no pickle."""

from __future__ import annotations

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


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path, pytest.fail) is None
    assert checkpoint.newest(tmp_path / "absent", pytest.fail) is None
