"""A command that is killed by the system and started again ends where one that was not does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests import forks
from tests.equivalence.test_ranks import words
from tests.equivalence.test_resume import rows
from tests.unit.test_folder import put

from fewstep.cli import main
from fewstep.data.batches import Batch
from fewstep.rng import Rng
from fewstep.train import loop

HALF = 4
"""Steps before the kill and after it; checkpoints come every 3, so that one step is lost."""


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
@pytest.mark.parametrize("recipe", ["ladd_shapes", "sda_shapes", "dopsd_shapes"])
def test_killed_and_started_again_is_the_same_run(
    recipe: str, model: Path, tmp_path: Path
) -> None:
    for i in range(4):
        put(tmp_path / "pictures" / f"{i}.png", f"{i} circles", width=64, height=64, seed=i)
        (tmp_path / "pictures" / f"{i}.enhanced.txt").write_text(f"{i} dogs on white")
    command = [*words(model, tmp_path, recipe, 4), "--loop.log-every", "1",
               "--loop.steps", str(2 * HALF), "--loop.checkpoint-every", "3"]  # fmt: skip
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert trained(command, straight, tmp_path / "a.jsonl") == 0
    assert trained(command, broken, tmp_path / "b.jsonl", kill_at=HALF) == -signal.SIGKILL
    assert trained(command, broken, tmp_path / "b.jsonl") == 0

    expected, found = given(tmp_path / "a.jsonl"), given(tmp_path / "b.jsonl")
    assert [line["step"] for line in found] == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert found[:3] + found[4:] == expected and found[3] == found[4]
    assert rows(straight) == rows(broken)
    assert {row["step"] for row in rows(straight)} == set(range(1, 2 * HALF + 1))
    whole, again = tensors(straight), tensors(broken)
    assert whole.keys() == again.keys()
    kinds = {name.split("/")[2].split(".")[0] for name in whole if name.startswith("checkpoints")}
    assert kinds == {"module", "optim"} and any(name.startswith("model/") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []
