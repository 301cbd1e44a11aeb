"""NaN in the loss of one phase on one of two real processes: both do without the same update."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import forks
from tests.equivalence.test_ranks import words

from fewstep.cli import INTERRUPTED, commands, main
from fewstep.methods.ladd import LADD
from fewstep.runs import read_metrics

STEPS = 6


def trained(
    model: Path, root: Path, phase: str, bad: Collection[int], *more: str
) -> tuple[list[int], list[Path]]:
    """Exit codes of two processes and the file of all that each held in the end, if it came so
    far; the loss of `phase` is NaN in the second at the steps in `bad`."""
    command = [
        *words(model, root, "ladd_shapes", 2), "--data.batch-size", "4",
        "--data.samples.prompts", "8", "--loop.steps", str(STEPS), "--loop.log-every", "1",
        "--out", str(root / "run"), *more,
    ]  # fmt: skip
    held = [root / f"held_{rank}.safetensors" for rank in (0, 1)]

    def work(rank: int) -> int:
        name, loop = f"{phase}_loss", commands.run_loop
        real = getattr(LADD, name)

        def loss(self: LADD, batch: Any, rng: Any, **given: Any) -> Any:
            value, logs = real(self, batch, rng, **given)
            return (value * torch.nan if rank == 1 and rng.key[1] in bad else value), logs

        def run_loop(method: Any, batches: Any, cfg: Any, run: Any, optims: Any, *a: Any, **k: Any):
            outcome = loop(method, batches, cfg, run, optims, *a, **k)
            tensors = {
                f"{name}.{key}": value.clone()
                for name, module in method.modules.items()
                for key, value in module.state_dict().items()
            }
            for name, optim in optims.items():
                tensors |= {f"{name}:{k}": v.clone() for k, v in optim.state()[0].items()}
            save_file(tensors, held[rank])
            return replace(outcome, finished=False)  # without an export

        setattr(LADD, name, loss)
        commands.run_loop = run_loop
        return main(command)

    return forks.run(2, work), held


@pytest.mark.fault(9)
@pytest.mark.slow
@pytest.mark.parametrize(("phase", "bad"), [("heads", 2), ("student", 3)])
def test_both_skip_the_same_update(phase: str, bad: int, model: Path, tmp_path: Path) -> None:
    """The student moves at every second step; where the heads' step fails, it does not move."""
    codes, held = trained(model, tmp_path, phase, [bad])
    assert codes == [INTERRUPTED] * 2
    one, two = map(load_file, held)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.isfinite().all(), name
        assert torch.equal(value, two[name]), name
    rows = read_metrics(tmp_path / "run")
    assert [row["skipped"] for row in rows if row["phase"] == "loop"] == [0] * bad + [1] * (
        STEPS - bad
    )
    moved = {row["phase"]: row["updates"] for row in rows if "updates" in row}
    assert moved == {
        "heads": STEPS - (phase == "heads"), "student": 2 - (phase == "student")
    }  # fmt: skip
    assert int(one["ema.updates"]) == moved["student"]


@pytest.mark.fault(9)
@pytest.mark.slow
def test_both_stop_after_as_many_as_are_allowed(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codes, held = trained(model, tmp_path, "heads", range(2, STEPS), "--loop.max-skips", "2")
    assert codes == [2, 2] and not any(path.exists() for path in held)
    said = capfd.readouterr().err
    assert (
        said.count("error: stopped at step 3: the loss of phase 'heads' was not finite in 2") == 2
    )
