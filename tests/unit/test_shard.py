"""Sharding: what each process holds, when it holds more, and what cannot be sharded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests import forks
from tests.sharded import BATCHES, OPTIMIZER, PARAMETERS, TEACHER, Training
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from fewstep.experiment.config import Experiment
from fewstep.experiment.sharding import divide
from fewstep.methods.ladd import LADD
from fewstep.nets.adapters import AdapterConfig
from fewstep.nets.shard import ShardingConfig, held, reshard, whole
from fewstep.recipes.dopsd import dopsd_shapes
from fewstep.recipes.ladd import ladd_shapes
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.ranks import Ranks, started
from fewstep.train.step import run_step


def test_what_each_of_three_holds() -> None:
    """Of 16 rows 6, 6 and 4; one row is the first one's; of the frozen teacher's blocks too."""

    def rank(rank: int) -> int:
        with started("cpu", sharded=True) as ranks:
            method, teacher = Training().built()
            before = {
                n: p.detach().clone() for n, p in method.modules["student"].named_parameters()
            }
            mesh = init_device_mesh("cpu", (ranks.count,))
            divide(method, [teacher], TEACHER, mesh)
            student = method.modules["student"]
            for name, p in student.named_parameters():
                here, (first, *others) = held(p)
                assert set(others) <= {0} and not here.requires_grad
                assert torch.equal(here, before[name][first : first + len(here)])
                assert torch.equal(whole(p), before[name])
            rows = {n: len(held(p)[0]) for n, p in student.named_parameters()}
            assert rows["enter.weight"] == [6, 6, 4][rank]
            judge = method.modules["heads"].get_parameter("heads.0.judge.bias")
            assert len(held(judge)[0]) == [1, 0, 0][rank]
            kinds = {name for name, p in teacher.named_parameters() if isinstance(p, DTensor)}
            assert kinds == {name for name, _ in teacher.named_parameters() if "blocks" in name}
            averaged = method.modules["ema"].parameters()
            assert all(isinstance(p, DTensor) for p in averaged)
        return 0

    assert forks.run(3, rank) == [0, 0, 0]


def test_whole_weights_are_given_back() -> None:
    """Where the mode keeps them from a forward on: at the end of a step, and when asked."""
    with started("cpu", sharded=True) as ranks:
        method, _ = Training().built()
        divide(method, [], OPTIMIZER, init_device_mesh("cpu", (1,)))
        student, batch = method.modules["student"], BATCHES(0)[0]
        optims = {n: Optim(OptimConfig(), method.modules[n], total=9) for n in ("heads", "student")}

        def kinds() -> set[bool]:
            return {isinstance(p, DTensor) for p in student.parameters()}

        def forward() -> None:
            with torch.no_grad():
                student(batch.x0, torch.full((len(batch),), 0.5), batch.cond)

        forward()
        assert kinds() == {False}
        reshard([student])
        assert kinds() == {True}
        # the student has a forward and no backward in a step of the heads alone
        assert run_step(method, [batch], optims, {}, seed=0, step=0, ranks=ranks) is None
        assert optims["student"].updates == 0 and kinds() == {True}
        assert isinstance(method, LADD)
        real, needed = method.student_loss, list[bool]()

        def student_loss(*args: Any, **more: Any) -> Any:
            needed.extend(p.requires_grad for p in method.heads.parameters())
            return real(*args, **more)

        method.student_loss = student_loss
        assert run_step(method, [batch], optims, {}, seed=0, step=1, ranks=ranks) is None
        assert optims["student"].updates == 1 and kinds() == {True}
        assert set(needed) == {False}  # they have moved
        assert all(p.requires_grad for o in optims.values() for p in o.parameters.values())


def test_who_has_less_to_do_repeats_what_others_do() -> None:
    def shares(count: int, parts: str) -> list[tuple[str, str]]:
        each = (Ranks(rank, count, sharded=True) for rank in range(count))
        return [("".join(r.share(parts)), "".join(r.padding(parts))) for r in each]

    assert shares(2, "abcd") == [("ac", ""), ("bd", "")]
    assert shares(2, "abc") == [("ac", ""), ("b", "a")]
    assert shares(4, "ab") == [("a", ""), ("b", ""), ("", "a"), ("", "b")]
    assert shares(3, "abcde") == [("ad", ""), ("be", ""), ("c", "a")]
    assert Ranks(1, 2).padding("abc") == ()


def test_what_cannot_be_sharded_is_refused() -> None:
    def refused(experiment: Experiment, cfg: ShardingConfig, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            replace(experiment, sharding=cfg)

    with pytest.raises(ValueError, match=r"sharding\.mode is none, which shards nothing"):
        ShardingConfig(teacher="sharded")
    plain = replace(ladd_shapes(), engine="plain")
    assert replace(plain, sharding=PARAMETERS).sharding.on
    refused(replace(plain, engine="fused"), PARAMETERS, "set engine to plain")
    refused(replace(plain, adapter=AdapterConfig()), OPTIMIZER, "or adapter to none")
    refused(replace(plain, method=replace(plain.method, r1="exact")), PARAMETERS, "r1 to approx")
    tuned = replace(dopsd_shapes(), adapter=None, engine="plain")
    folder = replace(tuned.data.folder, path="pictures")
    tuned = replace(
        tuned, retention=replace(tuned.retention, every=5), data=replace(tuned.data, folder=folder)
    )
    refused(tuned, PARAMETERS, r"retention\.every = 5 looks with one process")
    tuned = replace(
        tuned, retention=replace(tuned.retention, every=0), data=replace(tuned.data, prior_size=4)
    )
    assert replace(tuned, sharding=PARAMETERS).sharding.on
    few = replace(tuned, data=replace(tuned.data, prior_size=3))
    refused(few, PARAMETERS, r"data\.prior_size = 3 may leave a micro-batch without")
