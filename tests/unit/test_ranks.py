"""What several processes find out together, in real ones over gloo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests import forks

from fewstep.cli.app import main
from fewstep.errors import UserError
from fewstep.experiment.config import DataConfig
from fewstep.experiment.samples import part_of
from fewstep.runs import RunError
from fewstep.train.ranks import ALONE, started


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with started("cpu") as ranks:
        assert ranks is ALONE and ranks.first
        assert ranks.share([1, 2, 3]) == [1, 2, 3] and ranks.all_facts({"a": 1}) == [{"a": 1}]
        assert ranks.any(True) and not ranks.any(False)
        value = torch.ones(2)
        assert ranks.total(value) is value
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="not RANK"), started("cpu"):
        pass


def test_sums_shares_and_words(tmp_path: Path) -> None:
    def work(rank: int) -> int:
        with started("cpu") as ranks:
            assert (ranks.rank, ranks.count, ranks.first) == (rank, 3, rank == 0)
            assert ranks.share("abcdefg") == ["adg", "be", "cf"][rank]
            value = torch.tensor([1.0, rank])
            assert torch.equal(ranks.total(value), torch.tensor([3.0, 3.0]))
            assert torch.equal(value, torch.tensor([1.0, rank]))
            said = {"rank": rank, "text": "\u732b" * rank, "x": 0.1}
            assert ranks.all_facts(said) == [
                {"rank": r, "text": "\u732b" * r, "x": 0.1} for r in range(3)
            ]
            assert ranks.any(rank == 2) and not ranks.any(False)

            some, none, all_ = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
            all_.grad = torch.full((2,), 1.0 + rank)
            if rank == 1:
                some.grad = torch.tensor([5.0, 7.0])
            ranks.total_gradients([some, none, all_])
            assert some.grad is not None and some.grad.tolist() == [5.0, 7.0]
            assert none.grad is None and all_.grad.tolist() == [6.0, 6.0]

            ranks.agree("model", "the same")
            with pytest.raises(RunError, match="process 1 of 3 has another model than the first"):
                ranks.agree("model", rank == 1)
        return 0

    assert forks.run(3, work) == [0, 0, 0]


def test_each_process_gets_a_micro_batch_where_samples_suffice() -> None:
    plain = DataConfig(batch_size=12)
    assert [part_of(plain, n) for n in (1, 2, 5, 12)] == [12, 6, 3, 2]
    assert part_of(DataConfig(batch_size=12, micro_batch=1), 4) == 1
    assert part_of(DataConfig(batch_size=12, micro_batch=4), 2) == 4
    assert part_of(DataConfig(batch_size=12, prior="samples"), 4) == 3


def test_torchrun_is_for_train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["demo"]) == 2
    assert "torchrun is for train" in capsys.readouterr().err
