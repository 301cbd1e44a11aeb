"""A teacher that changes while it teaches is named before a checkpoint stands on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests import forks
from tests.games import Game, new_run
from tests.tiny import tiny_zimage
from torch import nn

from fewstep.nets.adapters import AdapterConfig, adapt
from fewstep.nets.share import share
from fewstep.runs import Run, RunError
from fewstep.train import loop
from fewstep.train.frozen import Frozen
from fewstep.train.ranks import started


@pytest.mark.fault(14)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_bit_of_one_weight_is_named(dtype: torch.dtype) -> None:
    family = tiny_zimage()
    teacher = family.backbone.to(dtype)
    student = share(teacher)
    adapt(student, AdapterConfig(kind="lora", rank=2), 0)
    frozen = Frozen({"student": student}, [teacher])
    assert len(frozen.parameters) == len(list(teacher.parameters()))
    for p in student.parameters():
        if p.requires_grad:  # what trains may move
            p.data.add_(1.0)
    assert frozen.fault() is None
    name = "transformer.layers.3.feed_forward.w2.weight"
    weight = teacher.get_parameter(name)
    weight.data.view(torch.int16)[5, 7] ^= 1
    count = len(frozen.parameters)
    assert frozen.fault() == f"{name} has changed (1 of {count} have)"
    weight.data.view(torch.int16)[5, 7] ^= 1
    assert frozen.fault() is None
    weight.requires_grad_(True)
    assert frozen.fault() == f"{name} is to be trained"
    with pytest.raises(ValueError, match=f"the parameter {name} of a frozen model requires"):
        Frozen({}, [teacher])


def test_what_is_frozen_in_what_trains_is_watched_and_its_average_may_move() -> None:
    base = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    base[0].requires_grad_(False)
    average = nn.Linear(2, 2).requires_grad_(False)
    frozen = Frozen({"student": base, "ema": average}, [])
    average.weight.data.add_(1)
    base[1].weight.data.add_(1)
    assert frozen.fault() is None
    base[0].bias.data.add_(1)
    assert frozen.fault() == "student.0.bias has changed (1 of 2 have)"


@pytest.mark.fault(14)
def test_no_checkpoint_stands_on_a_teacher_that_has_changed(tmp_path: Path) -> None:
    straight, game = Game(steps=6), Game(steps=6)
    with new_run(tmp_path / "straight") as run:
        straight.train(run, checkpoint_every=2)

    def train(game: Game, run: Run, hooks: list[loop.Hook]) -> None:
        loop.train(
            game.method, game.batches, loop.LoopConfig(steps=6, checkpoint_every=2), run,
            game.optims, hooks, seed=0, frozen=Frozen(game.method.modules, [game.method.teacher]),
        )  # fmt: skip

    def spoil(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                game.method.teacher.blocks[1][0].weight[0, 0].mul_(1.001)  # pyright: ignore

    with new_run(tmp_path / "r") as run:
        with pytest.raises(
            RunError, match=r"at step 4 .*: blocks\.1\.0\.weight has changed \(1 of"
        ):
            train(game, run, [loop.every(1, spoil)])
        assert {p.name for p in run.checkpoints.glob("step_*")} == {"step_00000002"}
    again = Game(steps=6)
    with Run.open(tmp_path / "r") as run:
        train(again, run, [])
    assert all(torch.equal(straight.state()[k], v) for k, v in again.state().items())


@pytest.mark.fault(14)
def test_all_processes_hear_of_the_copy_that_has_changed() -> None:
    def work(rank: int) -> int:
        teacher = nn.Linear(3, 3).requires_grad_(False)
        with started("cpu") as ranks:
            frozen = Frozen({}, [teacher])
            frozen.check(1, ranks)
            teacher.bias.data += rank
            with pytest.raises(RunError, match=r"at step 2 .* bias has changed"):
                frozen.check(2, ranks)
        return 0

    assert forks.run(2, work) == [0, 0]
