"""Weights that are divided among processes end where whole ones do, and so do those of a run that
goes on with another number of processes or another division."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests import forks
from tests.sharded import (
    OPTIMIZER,
    PARAMETERS,
    TEACHER,
    WHOLE,
    Training,
    in_context,
    largest,
    saved,
)

from fewstep.nets.shard import ShardingConfig
from fewstep.runs import read_metrics
from fewstep.train.ranks import started

CLOSE = 1e-6
"""Of every weight, average and moment after 20 steps."""
HALF, END = "checkpoints/step_00000010", "checkpoints/step_00000020"
MODES: dict[int, list[tuple[str, ShardingConfig]]] = {
    1: [("ladd", PARAMETERS)],
    2: [(m, cfg) for m in ("ladd", "sft") for cfg in (OPTIMIZER, PARAMETERS)],
    4: [("ladd", OPTIMIZER), ("ladd", TEACHER), ("sft", OPTIMIZER), ("sft", PARAMETERS)],
}
"""What is trained by so many processes."""
ALL = [(count, *mode) for count, modes in MODES.items() for mode in modes]
ONWARD = [
    ("ladd_2_parameters", 1, WHOLE), ("ladd_2_parameters", 1, PARAMETERS),
    ("ladd_2_parameters", 4, OPTIMIZER), ("ladd_1_none", 2, PARAMETERS),
]  # fmt: skip
"""Who saved, and who goes on from the half."""


def title(method: str, count: int, cfg: ShardingConfig) -> str:
    return f"{method}_{count}_{cfg.mode}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of this file, by `title`; as few processes as do it, for each starts slowly."""
    root = tmp_path_factory.mktemp("runs")

    def by(count: int, work: Mapping[str, Training]) -> None:
        def rank(_rank: int) -> int:
            with started("cpu", sharded=True) as ranks:
                return int(not all(t.run(root / name, ranks).finished for name, t in work.items()))

        assert forks.run(count, rank) == [0] * count

    def onward(count: int) -> dict[str, Training]:
        found: dict[str, Training] = {}
        for source, others, cfg in ONWARD:
            if others == count:
                name = f"{source}_then_{count}_{cfg.mode}"
                shutil.copytree(root / source, root / name, ignore=shutil.ignore_patterns("*20"))
                found[name] = Training(sharding=cfg)
        return found

    def trained(count: int) -> dict[str, Training]:
        return {title(m, count, cfg): Training(method=m, sharding=cfg) for m, cfg in MODES[count]}

    whole = {title(m, 1, WHOLE): Training(method=m) for m in ("ladd", "sft")}
    by(1, whole | trained(1))
    by(2, trained(2) | onward(2))
    by(4, trained(4) | onward(4))
    by(1, onward(1))
    return root


def logged(out: Path) -> list[list[float]]:
    return [[r["step"], r["loss"], r["grad_norm"]] for r in read_metrics(out) if "loss" in r]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "method", "cfg"), ALL)
def test_sharding_changes_nothing(runs: Path, count: int, method: str, cfg: ShardingConfig) -> None:
    plain, out = runs / title(method, 1, WHOLE), runs / title(method, count, cfg)
    parts = {path.name for path in (out / END).glob("module.student.*")}
    assert parts == {f"module.student.{rank}-of-{count}.safetensors" for rank in range(count)}
    far = largest(saved(plain / END), saved(out / END))
    assert far <= CLOSE if count > 1 else far == 0
    for alone, together in zip(logged(plain), logged(out), strict=True):
        assert alone == pytest.approx(together, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "count", "cfg"), ONWARD)
def test_any_number_goes_on(runs: Path, source: str, count: int, cfg: ShardingConfig) -> None:
    out = runs / f"{source}_then_{count}_{cfg.mode}"
    formats = [json.loads((out / at / "state.json").read_text())["format"] for at in (HALF, END)]
    assert formats == [2 if "none" in source else 3, 3 if cfg.on else 2]
    assert largest(saved(runs / "ladd_1_none" / END), saved(out / END)) <= CLOSE
    assert [r["step"] for r in read_metrics(out) if r["phase"] == "loop"] == [5, 10, 15, 20]


@pytest.mark.slow
def test_the_other_methods_end_where_they_do_alone(tmp_path: Path) -> None:
    """A frozen teacher divided too; rolled out, in context, beside a prior."""
    methods = ("dmd2", "dopsd", "offpolicy", "dreambooth", "pso", "sda")

    def rank(_rank: int) -> int:
        with started("cpu", sharded=True) as ranks:
            for method in methods:
                cfg = TEACHER if ranks.count > 1 else WHOLE
                training = Training(
                    method=method, sharding=cfg, steps=6, every=6, batches=in_context
                )
                training.run(tmp_path / f"{method}_{ranks.count}", ranks)
        return 0

    assert forks.run(1, rank) == [0] and forks.run(2, rank) == [0, 0]
    for method in methods:
        one, two = (saved(tmp_path / f"{method}_{n}/checkpoints/step_00000006") for n in (1, 2))
        assert largest(one, two) <= CLOSE, method
