"""A tuning run that is killed, stopped and started again by the same command ends where one that
ran through does, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.equivalence.test_resume import rows
from tests.unit.test_folder import put

from fewstep.cli import INTERRUPTED
from fewstep.cli.commands import train
from fewstep.data.told import Told
from fewstep.experiment.builder import Built, build
from fewstep.experiment.config import Experiment
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.recipes import RECIPES
from fewstep.train.gauge import RECORD, read_rows
from fewstep.train.loop import LoopConfig, every
from fewstep.train.retention import RetentionConfig

LORA = AdapterConfig(kind="lora", rank=2)
LOKR = AdapterConfig(factor=2)
STEPS, BROKEN = 5, 3
"""Checkpoints come every two steps: what is killed after 3 has lost one, what is stopped none."""


def tuning(recipe: str, model: Path, pictures: Path, cache: Path, **changes: Any) -> Experiment:
    """The recipe at the smallest size at which its parts still differ."""
    base = RECIPES[recipe]()
    data, folder = base.data, base.data.folder
    samples = replace(data.samples, prompts=5, steps=2)
    return replace(
        base,
        model=str(model), engine="plain",
        data=replace(
            data, folder=replace(folder, path=str(pictures), trigger="sks"),
            samples=samples, cache=str(cache), batch_size=3, micro_batch=2, prior_size=2,
        ),
        loop=LoopConfig(steps=STEPS, log_every=1, checkpoint_every=2),
        sampling=replace(base.sampling, every=STEPS, prompts=2),
        check=replace(base.check, pictures=0),
        **changes,
    )  # fmt: skip


def put_pictures(folder: Path) -> Path:
    """Of two sizes, with several captions, and further prompts."""
    for i, width in enumerate((64, 96)):
        put(folder / f"{i}.png", "one\ntwo", width=width, height=64, seed=i)
    (folder / "prompts.txt").write_text("three\nfour\nfive")
    return folder


class Killed(BaseException):
    pass


def killed(step: int) -> None:
    if step == BROKEN:
        raise Killed


def stopped(step: int) -> None:
    if step == BROKEN:
        os.kill(os.getpid(), signal.SIGTERM)


def run(experiment: Experiment, out: Path, between: Callable[[int], None] | None = None) -> int:
    """The command itself, with something that happens between its steps."""

    def make(experiment: Experiment, out: Path, told: Told) -> Built:
        built = build(experiment, out, told)
        return built if between is None else replace(built, hooks=[*built.hooks, every(1, between)])

    return train(experiment, out, "train", Console(quiet=True), make)


def written(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint and of the exported adapter."""
    last = out / "checkpoints" / f"step_{STEPS:08d}"
    files = [*last.glob("*.safetensors"), *out.glob("adapter.safetensors")]
    return {
        f"{file.name}/{name}": value for file in files for name, value in load_file(file).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("dopsd_shapes", {
            "method": DOPSDConfig(tether_weight=0.5, visits=2), "adapter": LOKR,
            "retention": RetentionConfig(every=2, prompts=8, steps=(1,), concept=2, collapse=100.0),
        }),
        ("offpolicy_shapes", {"method": OffPolicyConfig(states="teacher"), "adapter": LORA}),
        ("pso_shapes", {"adapter": None}),
        ("dreambooth_shapes", {"adapter": LOKR}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_killed_stopped_and_resumed_is_the_same_run(
    recipe: str, changes: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    pictures, straight, broken = put_pictures(tmp_path / "p"), tmp_path / "a", tmp_path / "b"
    experiment = tuning(recipe, model, pictures, tmp_path / "cache", **changes)
    assert run(experiment, straight) == 0
    with pytest.raises(Killed):
        run(experiment, broken, killed)
    assert max(int(str(row["step"])) for row in rows(broken)) == BROKEN
    assert run(experiment, broken, stopped) == INTERRUPTED
    assert run(experiment, broken) == 0

    assert rows(straight) == rows(broken)
    assert [row["step"] for row in rows(straight) if row["phase"] == "student"] == [1, 2, 3, 4, 5]
    found, expected = written(broken), written(straight)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert read_rows(broken / RECORD) == read_rows(straight / RECORD)
