"""What the loop does when numbers go bad."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.games import Game, new_run
from tests.unit.test_loop import Pull, batch, optims_for

from fewstep.data.batches import Batch
from fewstep.runs import Run
from fewstep.train.loop import LoopConfig, NotFiniteError, Outcome, train
from fewstep.train.step import run_step


@pytest.mark.parametrize(
    ("kind", "what"), [("nan loss", "loss of phase 'a'"), ("inf gradient", "gradient of phase 'a'")]
)
def test_trap33_a_step_that_is_not_finite_moves_nothing(
    tmp_path: Path, kind: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    method, twin = Pull(), Pull()
    method.bad = {2: kind, 4: kind}
    optims = optims_for(method)
    with new_run(tmp_path / "r") as run:
        outcome = train(
            method, lambda _: [batch((1.0, 1.0))], LoopConfig(steps=6, max_skips=2), run, optims,
            seed=0,
        )  # fmt: skip
        rows = run.metrics()
    assert outcome == Outcome(step=6, finished=True, skipped=2)
    assert optims["a"].updates == 4
    assert optims["b"].updates == 1  # step 2 ended before its turn
    assert method.after == [0, 1, 3, 5, 5]
    twin_optims = optims_for(twin)
    with new_run(tmp_path / "twin") as run:
        train(twin, lambda _: [batch((1.0, 1.0))], LoopConfig(steps=4), run, twin_optims, seed=0)
    assert torch.equal(method.a.w, twin.a.w)
    assert all(v.isfinite().all() for v in optims["a"].state()[0].values())
    assert rows[-1]["phase"] == "loop" and rows[-1]["skipped"] == 2
    assert all(math.isfinite(r["loss"]) for r in rows if "loss" in r)
    assert f"step 2 skipped: the {what} is not finite" in capsys.readouterr().out


@pytest.mark.fault(9)
def test_trap33_too_many_in_a_row_stop_the_run_and_resuming_goes_on_counting(
    tmp_path: Path,
) -> None:
    method = Pull()
    method.bad = dict.fromkeys(range(3, 20), "nan loss")
    loop = LoopConfig(steps=10, max_skips=3, checkpoint_every=4)
    with new_run(tmp_path / "r") as run:
        with pytest.raises(NotFiniteError, match=r"step 5: the loss of phase 'a' .* 3 steps in a"):
            train(method, lambda _: [batch((1.0, 1.0))], loop, run, optims_for(method), seed=0)
        kept = method.a.w.detach().clone()
        assert kept.isfinite().all()
    again = Pull()
    again.bad = method.bad
    with Run.open(tmp_path / "r") as run, pytest.raises(NotFiniteError, match="step 5"):
        train(again, lambda _: [batch((1.0, 1.0))], loop, run, optims_for(again), seed=0)
    assert torch.equal(again.a.w, kept)


@pytest.mark.fault(9)
def test_trap33_a_bad_heads_step_leaves_student_and_ema(tmp_path: Path) -> None:
    """LADD's student phase stands on what the heads' phase left: both are skipped."""
    game = Game()
    before = game.state()
    bad = [Batch(ids=b.ids, x0=b.x0 * math.inf, cond=b.cond) for b in game.batches(1)]
    assert (
        run_step(game.method, bad, game.optims, {}, seed=0, step=1) == "the loss of phase 'heads'"
    )
    after = game.state()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert game.optims["student"].updates == 0
