"""Checkpoints in parts, and large whole ones: written while training goes on, by all or by none."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests import forks
from tests.sharded import BATCHES, PARAMETERS, WHOLE, Training, largest, saved
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

from fewstep.data.batches import Batch
from fewstep.errors import UserError
from fewstep.nets.shard import ShardingConfig
from fewstep.runs import RunError
from fewstep.train import checkpoint, saving
from fewstep.train.loop import NotFiniteError, every
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.parts import Held, Stored
from fewstep.train.ranks import ALONE, Ranks, started

SHORT = Training(method="sft", sharding=PARAMETERS, steps=6, every=2)


@pytest.fixture
def alone() -> Iterator[Ranks]:
    """A group of one process, which holds every part."""
    with started("cpu", sharded=True) as ranks:
        yield ranks


@pytest.fixture(params=(PARAMETERS, WHOLE), ids=("in parts", "large"))
def short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A run whose checkpoints are written while it goes on."""
    monkeypatch.setattr(saving, "LARGE", 1)
    return replace(SHORT, sharding=request.param)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    out = tmp_path_factory.mktemp("two")
    assert forks.run(2, lambda rank: work(out, SHORT)) == [0, 0]
    return out


def work(out: Path, training: Training) -> int:
    with started("cpu", sharded=training.sharding.on) as ranks:
        return 0 if training.run(out, ranks).finished else 1


def complete(out: Path) -> str:
    """The name of the newest whole checkpoint."""
    found = checkpoint.newest(out / "checkpoints", lambda _: None)
    return "none" if found is None else found.name


def test_training_goes_on_while_files_are_written(
    alone: Ranks, short: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written of step 2 is what was there then, though the weights have moved on."""
    straight, late = tmp_path / "straight", tmp_path / "late"
    four = replace(short, steps=4)
    four.run(straight, alone)
    real, may_write = Held.write, threading.Event()
    seen: list[str] = []

    def write(self: Held, path: Path) -> None:
        assert may_write.wait(60)
        real(self, path)

    def look(step: int) -> None:
        seen.append(complete(late))
        if step == 3:  # not before the next save has begun
            threading.Timer(0.5, may_write.set).start()

    monkeypatch.setattr(Held, "write", write)
    replace(four, hooks=(every(1, look),)).run(late, alone)
    # at the next save, at the latest, the one before is finished
    assert seen == ["none", "none", "none", "step_00000002"]
    for step in (2, 4):
        at = f"checkpoints/step_{step:08d}"
        assert largest(saved(straight / at), saved(late / at)) == 0


def test_what_is_written_is_a_checkpoint_as_soon_as_all_have_written(
    alone: Ranks, short: Training, tmp_path: Path
) -> None:
    """It waits for no other save: a kill in between would lose it."""
    seen: list[str] = []

    def look(step: int) -> None:
        seen.append(complete(tmp_path))
        if step == 2:
            [partial] = (tmp_path / "checkpoints").glob(".step_*")
            while {p.name.partition(".")[0] for p in partial.iterdir()} != {"module", "optim"}:
                time.sleep(0.01)
            time.sleep(0.5)

    def batches(step: int) -> Sequence[Batch]:
        if step == 2:
            seen.append(complete(tmp_path))
        return BATCHES(step)

    replace(short, steps=4, hooks=(every(1, look),), batches=batches).run(tmp_path, alone)
    assert seen == ["none", "none", *["step_00000002"] * 3]


def test_samples_that_cannot_be_read_lose_no_checkpoint(
    alone: Ranks, short: Training, tmp_path: Path
) -> None:
    def batches(step: int) -> Sequence[Batch]:
        if step == 4:
            raise UserError("a damaged sample")
        return BATCHES(step)

    with pytest.raises(UserError, match="damaged"):
        replace(short, batches=batches).run(tmp_path, alone)
    assert complete(tmp_path) == "step_00000004"
    assert not list((tmp_path / "checkpoints").glob(".step*"))


def test_large_whole_weights_lie_as_small_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files with the same numbers, and either kind goes on from the other."""
    small, large = tmp_path / "small", tmp_path / "large"
    half, whole = replace(SHORT, sharding=WHOLE, steps=4), replace(SHORT, sharding=WHOLE)
    half.run(small, ALONE)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "LARGE", 1)
        half.run(large, ALONE)
        whole.run(small, ALONE)
    whole.run(large, ALONE)
    for step in (4, 6):
        files = [{p.name for p in (run / f"checkpoints/step_{step:08d}").iterdir()}
                 for run in (small, large)]  # fmt: skip
        assert files[0] == files[1]
        one, other = (saved(run / f"checkpoints/step_{step:08d}") for run in (small, large))
        assert one.keys() == other.keys() and largest(one, other) == 0
        state = [(run / f"checkpoints/step_{step:08d}/state.json").read_bytes()
                 for run in (small, large)]  # fmt: skip
        assert state[0] == state[1]


def test_large_is_what_a_checkpoint_holds() -> None:
    """Weights, averages and moments, and nothing that is frozen."""
    method, _ = replace(SHORT, sharding=WHOLE).built()
    optims = {"student": Optim(OptimConfig(betas=(0.9, 0.99)), method.modules["student"], total=1)}
    it = saving.Saving(Path("none"), method.modules, optims, 2, ALONE)
    n = sum(p.numel() for p in method.modules["student"].parameters())
    counter = 8  # of the average
    assert it.size() == 2 * 4 * n + counter
    for p in optims["student"].parameters.values():
        p.grad = torch.ones_like(p)
    optims["student"].step(optims["student"].norm())
    steps = 4 * len(optims["student"].parameters)
    assert it.size() == 4 * 4 * n + counter + steps


def test_nothing_by_pickle_and_torch_reads_it_too(two: Path, tmp_path: Path) -> None:
    last = two / "checkpoints/step_00000006"
    names = {f"{kind}.{rank}-of-2.safetensors" for rank in range(2)
             for kind in ("module.student", "module.ema", "optim.student")}  # fmt: skip
    assert {p.name for p in last.iterdir()} == names | {"state.json", "manifest.json"}
    for path in last.glob("module.student.*"):
        shutil.copy(path, tmp_path)
    ours = {k.split("/")[1]: v for k, v in saved(last).items() if k.startswith("module.student/")}
    theirs = {name: torch.full_like(value, torch.nan) for name, value in ours.items()}
    dcp.load(theirs, storage_reader=HuggingFaceStorageReader(str(tmp_path)), no_dist=True)
    assert largest(ours, theirs) == 0


def test_parts_that_do_not_make_a_whole_are_refused(two: Path) -> None:
    files = sorted((two / "checkpoints/step_00000006").glob("module.student.*"))
    stored, half = Stored(files), Stored(files[:1])
    assert stored.shape("leave.weight") == (8, 16) and half.shape("leave.weight") == (4, 16)
    with pytest.raises(ValueError, match=r"shape \(8, 16\) here and \(4, 16\) in the checkpoint"):
        half.fill("leave.weight", torch.zeros(8, 16))
    with pytest.raises(ValueError, match="is not whole in the checkpoint"):
        Stored(files[1:]).fill("leave.weight", torch.zeros(8, 16))


def test_killed_before_the_commit_the_older_checkpoint_is_the_newest(
    two: Path, tmp_path: Path
) -> None:
    def rank(rank: int) -> int:
        real, calls = Held.write, list[Path]()

        def write(self: Held, path: Path) -> None:
            calls.append(path)
            if rank == 1 and len(calls) == 5:  # the second file of the second checkpoint
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, path)

        Held.write = write
        return work(tmp_path, SHORT)

    assert forks.run(2, rank)[1] == -signal.SIGKILL
    told: list[str] = []
    found = checkpoint.newest(tmp_path / "checkpoints", told.append)
    assert found is not None and found.name == "step_00000002"
    assert len(told) == 1 and "never finished" in told[0]
    assert forks.run(2, lambda _rank: work(tmp_path, SHORT)) == [0, 0]
    assert not list((tmp_path / "checkpoints").glob(".step*"))
    at = "checkpoints/step_00000006"
    assert largest(saved(two / at), saved(tmp_path / at)) == 0


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.fault(5)
@pytest.mark.parametrize("sharding", [PARAMETERS, WHOLE])
def test_a_full_disk_of_the_first_is_told_to_all(tmp_path: Path, sharding: ShardingConfig) -> None:
    """As soon as it wants to write, in parts or whole."""

    def rank(rank: int) -> int:
        if rank == 0:
            saving.begin = checkpoint.begin = full  # type: ignore[attr-defined]
        try:
            return work(tmp_path, replace(SHORT, sharding=sharding))
        except RunError as error:
            return 7 if "step_00000002: No space left" in str(error) else 8

    assert forks.run(2, rank) == [7, 7]
    assert complete(tmp_path) == "none"


@pytest.mark.parametrize("sharding", [PARAMETERS, WHOLE])
def test_a_full_disk_of_one_is_told_to_all(tmp_path: Path, sharding: ShardingConfig) -> None:
    """Of whole weights the first alone writes."""
    writes = 1 if sharding.on else 0

    def rank(rank: int) -> int:
        real, saving.LARGE = Held.write, 1

        def write(self: Held, path: Path) -> None:
            if rank == writes and "00000004" in str(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(self, path)

        Held.write = write
        try:
            return work(tmp_path, replace(SHORT, sharding=sharding))
        except RunError as error:
            return 7 if "step_00000004: No space left" in str(error) else 8

    assert forks.run(2, rank) == [7, 7]
    assert complete(tmp_path) == "step_00000002"
    assert not list((tmp_path / "checkpoints").glob(".step*"))


def test_what_is_not_finite_in_one_moves_none(tmp_path: Path) -> None:
    """Step 1 of the second process alone, then all steps from 4 on."""

    def rank(rank: int) -> int:
        def batches(step: int) -> Sequence[Batch]:
            found = BATCHES(step)
            if rank == 1 and (step == 1 or step >= 4):
                return [replace(batch, x0=batch.x0 * torch.nan) for batch in found]
            return found

        with started("cpu", sharded=True) as ranks:
            training = replace(SHORT, batches=batches, steps=9, every=1)
            with pytest.raises(NotFiniteError, match="stopped at step 6: the loss of phase"):
                training.run(tmp_path, ranks)
        return 0

    assert forks.run(2, rank) == [0, 0]
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None and found.name == "step_00000006"
    last, before = saved(found), saved(found.with_name("step_00000005"))
    assert largest(last, before) == 0
    assert float(last["optim.student/enter.weight/step"]) == 3
    assert not any(value.isnan().any() for value in last.values())
