"""What one of two processes of the real command finds, both answer in a sentence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import forks

from fewstep.cli import INTERRUPTED, commands, main
from fewstep.experiment.builder import Built
from fewstep.experiment.preview import Preview
from fewstep.train.loop import Hook, every

SECONDS = 90.0

pytestmark = pytest.mark.slow


def words(options: Sequence[str], out: Path, *more: str) -> list[str]:
    """Micro-batches for both; the engine that runs divided weights too."""
    return ["train", "ladd_shapes", *options, "--engine", "plain", "--data.micro-batch", "2",
            "--out", str(out), *more]  # fmt: skip


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (lambda out, rank: (out, "--loop.log-every", str(rank + 1)), "has another configuration"),
        (lambda out, rank: (out if rank == 0 else out / "other",), "go on from different steps"),
    ],
)
def test_processes_that_do_not_do_the_same_are_refused(
    own: Callable[[Path, int], Sequence[str]], why: str, options: list[str], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The second has other options, or sees another folder than the run that is gone on with."""
    out = tmp_path / "run"
    assert main(words(options, out, "--loop.steps", "3")) == 0
    (out / "model").rename(tmp_path / "model")
    capfd.readouterr()

    def rank(rank: int) -> int:
        return main(words(options, *map(str, own(out, rank)), "--loop.steps", "3"))  # type: ignore[arg-type]

    assert forks.run(2, rank, SECONDS) == [2, 2]
    said = capfd.readouterr().err
    assert why in said and "Traceback" not in said
    assert not (out / "model").exists()


def test_a_picture_that_cannot_be_written_ends_both(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first alone draws pictures of whole weights; the other waits at the next step."""

    def fail(self: Preview, step: int) -> None:
        if step == 1:
            raise OSError(28, "No space left on device", "samples/step_000001.png")

    def rank(rank: int) -> int:
        Preview.__call__ = fail  # type: ignore[method-assign]
        return main(words(options, tmp_path / "run"))

    assert 0 not in forks.run(2, rank, SECONDS)
    said = capfd.readouterr().err
    assert "No space left on device" in said
    assert "error: another process has ended, and says why" in said and "gloo" not in said


@pytest.mark.fault(4)
def test_a_second_signal_from_torchrun_is_not_heard(options: list[str], tmp_path: Path) -> None:
    """Ctrl-C reaches the processes twice: from the terminal, and from torchrun."""
    out = tmp_path / "run"

    def rank(rank: int) -> int:
        real = commands.run_loop

        def twice(_step: int) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                time.sleep(0.05)

        def run_loop(*args: Any, **more: Any) -> Any:
            *given, hooks = args
            return real(*given, [*hooks, every(1, twice)], **more)

        commands.run_loop = run_loop
        return main(words(options, out))

    assert forks.run(2, rank, SECONDS) == [INTERRUPTED] * 2
    assert (out / "checkpoints/latest").read_text() == "step_00000001\n"


@pytest.mark.parametrize(("count", "more"), [(1, ""), (2, "parameters sharded")])
def test_a_frozen_weight_that_changes_ends_the_run(
    count: int, more: str, options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of one process, and of two that hold a half each of the teacher too: the second's changes."""
    sharding = [w for pair in zip(("--sharding.mode", "--sharding.teacher"), more.split(),
                                  strict=False) for w in pair]  # fmt: skip

    def rank(rank: int) -> int:
        real = commands.divided

        def divided(built: Built, *args: Any) -> Built:
            found = real(built, *args)
            weight = found.teacher.backbone.get_parameter(
                "transformer.layers.0.feed_forward.w1.weight"
            )

            @torch.no_grad()
            def change(_step: int) -> None:
                if rank == count - 1:
                    local = getattr(weight, "_local_tensor", weight)
                    local.view(-1)[0] += 1

            found.hooks.append(Hook(1, change, follow=change))
            return found

        commands.divided = divided
        return main(words(options, tmp_path / "run", *sharding))

    assert forks.run(count, rank, SECONDS) == [2] * count
    said = capfd.readouterr().err
    assert "the frozen weights are no longer those of the start" in said
    assert "layers.0.feed_forward.w1.weight has changed" in said
