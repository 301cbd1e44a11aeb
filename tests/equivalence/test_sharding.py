"""Weights that are divided among processes end where whole ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import forks
from tests.sharded import WHOLE, Training, largest, saved

from fewstep.nets.shard import ShardingConfig
from fewstep.runs import read_metrics

CLOSE = 1e-6
"""Of every weight, average and moment after 20 steps."""
END = "checkpoints/step_00000020"


def logged(out: Path) -> list[list[float]]:
    return [[r["step"], r["loss"], r["grad_norm"]] for r in read_metrics(out) if "loss" in r]


@pytest.fixture(scope="module", params=["ladd", "sft"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process with whole weights."""
    out = tmp_path_factory.mktemp("plain") / request.param
    assert forks.run(1, lambda rank: Training(method=out.name).rank(out, WHOLE)) == [0]
    return out


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(
    "cfg",
    [
        ShardingConfig(mode="optimizer"),
        ShardingConfig(mode="parameters"),
        ShardingConfig(mode="parameters", teacher="sharded"),
    ],
    ids=lambda cfg: f"{cfg.mode}-{cfg.teacher}",
)
def test_sharding_changes_nothing(
    plain: Path, tmp_path: Path, cfg: ShardingConfig, count: int
) -> None:
    training = Training(method=plain.name)
    assert forks.run(count, lambda rank: training.rank(tmp_path, cfg)) == [0] * count
    assert largest(saved(plain / END), saved(tmp_path / END)) <= (CLOSE if count > 1 else 0)
    for alone, together in zip(logged(plain), logged(tmp_path), strict=True):
        assert alone == pytest.approx(together, rel=1e-4)
