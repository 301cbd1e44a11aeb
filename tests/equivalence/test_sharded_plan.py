"""A plan of divided weights against two real processes that divide them."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import forks
from tests.contract.test_rehearsal import (
    CPU,
    LENGTHS,
    allocations,
    experiment_of,
    of_numbers,
    real,
)
from tests.sharded import OPTIMIZER, PARAMETERS, TEACHER
from torch.distributed.device_mesh import init_device_mesh

from fewstep.data.batches import Batch
from fewstep.experiment.builder import make_optims
from fewstep.experiment.config import Experiment
from fewstep.experiment.outline import outline
from fewstep.experiment.rehearsal import batch_of, rehearse, states
from fewstep.experiment.sharding import divide
from fewstep.nets.shard import ShardingConfig, held, reshard
from fewstep.train.live import nbytes
from fewstep.train.ranks import started
from fewstep.train.step import accumulate

COUNT = 2


def weighed(experiment: Experiment, model: Path, phases: tuple[str, ...]) -> dict[str, int]:
    """The most bytes of this process in a step after the first: of five the least, for what FSDP2
    leaves to the garbage collector comes on top now and then."""
    family, method, _ = real(experiment, model)
    mesh = init_device_mesh("cpu", (COUNT,))
    divide(method, [family.backbone], experiment.sharding, mesh)
    optims = make_optims(experiment, method)
    batch = batch_of(experiment, family, LENGTHS, 2)
    batch = replace(batch, x0=torch.randn(batch.x0.shape), cond=of_numbers(batch.cond))
    step = next(s for s in range(99) if tuple(p.name for p in method.phases(s)) == phases)
    found: dict[str, int] = {}
    for i in range(6):
        left = 0
        gc.collect()
        for phase in method.phases(step):
            optim, modules = optims[phase.name], (family.backbone, *method.modules.values())
            local = [held(t)[0] for m in modules for t in (*m.parameters(), *m.buffers())]
            local += [held(t)[0] for t in states(optims.values())]
            there = nbytes(local)
            with allocations() as first:
                one: list[tuple[Batch, float]] = [(batch, 0.5)]
                accumulate(phase, one, None, scale=2.0, seed=0, step=step, device=CPU)
            note(found, i, f"{phase.name}: gradients", there + left + first.most)
            with allocations() as second:
                optim.step(optim.norm())
                optim.zero_grad()
                phase.after()
            note(found, i, f"{phase.name}: update", there + left + first.now + second.most)
            left += first.now + second.now
            optim.train(False)
        reshard(method.modules.values())
        for optim in optims.values():
            optim.train(True)
    return found


def note(found: dict[str, int], step: int, name: str, most: int) -> None:
    if step:
        found[name] = min(most, found.get(name, most))


@pytest.mark.slow
@pytest.mark.parametrize(
    "cfg", [OPTIMIZER, PARAMETERS, TEACHER], ids=["optimizer", "parameters", "teacher"]
)
def test_a_process_takes_what_its_plan_says(
    cfg: ShardingConfig, model: Path, tmp_path: Path
) -> None:
    experiment = experiment_of("ladd_shapes_demo", model, sharding=cfg)
    family = outline(model)
    planned = rehearse(experiment, family, family, LENGTHS, COUNT)

    def work(rank: int) -> int:
        with started("cpu", sharded=True):
            found = weighed(experiment, model, planned.kinds[0].phases)
        (tmp_path / f"{rank}.json").write_text(json.dumps(found))
        return 0

    assert forks.run(COUNT, work) == [0] * COUNT
    for rank in range(COUNT):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        off = {name: round(planned.peaks[name] / most - 1, 3) for name, most in found.items()}
        print(found, planned.peaks, off)
        assert all(abs(share) <= 0.1 for share in off.values()), off
