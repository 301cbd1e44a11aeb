"""A command that is killed by the system and started again ends where one that was not does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests import boundaries, forks
from tests.equivalence.test_ranks import words
from tests.equivalence.test_resume import rows
from tests.unit.test_folder import put

from fewstep.cli import main
from fewstep.data.batches import Batch
from fewstep.rng import Rng
from fewstep.train import checkpoint, loop

HALF = 3
"""Steps before the kill and after it; checkpoints come every 2, so that one step is lost."""


def watch(record: Path, kill_at: int | None) -> None:
    """In this process, note what each step is given, and end without a word before `kill_at`."""
    real = loop.run_step

    def step(method: object, batches: list[Batch], *args: object, **more: object) -> object:
        if more["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        found = hashlib.sha256()
        for batch in batches:
            noise = Rng(int(str(more["seed"])), int(str(more["step"])), "student", batch.ids)
            for value in (batch.x0, *batch.cond.tokens, noise.randn(3)):
                found.update(value.numpy().tobytes())
        line = {"step": more["step"], "ids": [b.ids for b in batches], "seen": found.hexdigest()}
        with record.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return real(method, batches, *args, **more)  # pyright: ignore

    loop.run_step = step


def given(record: Path) -> list[dict[str, object]]:
    """What each step was given, of repeated ones both times."""
    return [json.loads(line) for line in record.read_text().splitlines()]


def trained(command: list[str], out: Path, record: Path, kill_at: int | None = None) -> int:
    """The exit code of the command in a process of its own."""

    def work(_rank: int) -> int:
        watch(record, kill_at)
        return main([*command, "--out", str(out)])

    return forks.run(1, work)[0]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Weights, optimizers, averages and what is exported."""
    files = [*out.glob("checkpoints/*/*.safetensors"), *out.glob("model/*/*.safetensors")]
    return {
        f"{file.relative_to(out)}/{name}": value
        for file in files
        for name, value in load_file(file).items()
    }


@pytest.mark.fault(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("ladd_shapes", ""), ("sda_shapes", ""), ("dopsd_shapes", ""),
        ("ladd_shapes", "--optim.student.weights exact --optim.student.moments 8bit "
                        "--method.ema-decay 0"),
    ],
)  # fmt: skip
def test_killed_and_started_again_is_the_same_run(
    recipe: str, more: str, model: Path, tmp_path: Path
) -> None:
    for i in range(4):
        put(tmp_path / "pictures" / f"{i}.png", f"{i} circles", width=64, height=64, seed=i)
        (tmp_path / "pictures" / f"{i}.enhanced.txt").write_text(f"{i} dogs on white")
    command = [*words(model, tmp_path, recipe, 4), "--data.batch-size", "4",
               "--data.samples.prompts", "6", "--loop.log-every", "1",
               "--loop.steps", str(2 * HALF), "--loop.checkpoint-every", "2",
               *more.split()]  # fmt: skip
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert trained(command, straight, tmp_path / "a.jsonl") == 0
    assert trained(command, broken, tmp_path / "b.jsonl", kill_at=HALF) == -signal.SIGKILL
    assert trained(command, broken, tmp_path / "b.jsonl") == 0

    expected, found = given(tmp_path / "a.jsonl"), given(tmp_path / "b.jsonl")
    assert [line["step"] for line in found] == [0, 1, 2, 2, 3, 4, 5]
    assert found[:2] + found[3:] == expected and found[2] == found[3]
    assert rows(straight) == rows(broken)
    assert {row["step"] for row in rows(straight)} == set(range(1, 2 * HALF + 1))
    whole, again = tensors(straight), tensors(broken)
    assert whole.keys() == again.keys()
    kinds = {name.split("/")[2].split(".")[0] for name in whole if name.startswith("checkpoints")}
    assert kinds == {"module", "optim"} and any(name.startswith("model/") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


@pytest.mark.fault(1)
@pytest.mark.slow
def test_killed_in_a_save_and_started_again_by_the_same_command(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every boundary of a save is in `test_killed_saves`; this is the command itself at two."""
    counted = tmp_path / "boundaries"

    def command(out: Path, kill_at: int = -1) -> int:
        def work(_rank: int) -> int:
            real = checkpoint.save

            def save(folder: Path, progress: checkpoint.Progress, *state: Any, keep: int) -> Path:
                met = boundaries.kill_at(kill_at if progress.step == 2 else -1)
                path = real(folder, progress, *state, keep=keep)
                counted.write_text(str(met()))
                return path

            checkpoint.save = save
            return main(["train", "ladd_shapes", *options, "--loop.keep", "1", "--out", str(out)])

        return forks.run(1, work)[0]

    assert command(tmp_path / "straight") == 0
    total = int(counted.read_text())
    for kill_at, step in ((total // 3, 1), (total - 1, 2)):
        out = tmp_path / f"killed_{kill_at}"
        assert command(out, kill_at) == -signal.SIGKILL
        [*partial] = out.glob("checkpoints/.step_*")
        capfd.readouterr()
        assert command(out) == 0
        said = capfd.readouterr().out
        assert f"resumed at step {step} from" in said
        assert len(partial) == (step == 1)
        assert all(f"{path} is a checkpoint that was never finished" in said for path in partial)
        whole, again = tensors(tmp_path / "straight"), tensors(out)
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[name], again[name]) for name in whole)
        assert rows(out) == rows(tmp_path / "straight")
