"""What counts as run twice, and what a naive sweep would have believed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.sweep import improvements
from benchmarks.sweep_check import log_lines, problems, twice
from tests.unit.sweep.toy_sweep import Log, nothing, opened, plan_of

from fewstep.sweep.store import draws_of, trials_of
from fewstep.sweep.worker import work


def test_what_was_cut_short_may_begin_again(tmp_path: Path) -> None:
    (tmp_path / "000.log").write_text("trial 0, training seed 0\nx\ntrial 0, training seed 1\n")
    (tmp_path / "001.log").write_text("trial 0, training seed 1\ntrial 1, training seed 0\n")
    assert log_lines(tmp_path) == [[(0, 0), (0, 1)], [(0, 1), (1, 0)]]
    assert twice(log_lines(tmp_path)) == []
    again = "trial 0, training seed 0\ntrial 2, training seed 0\n"
    (tmp_path / "002.log").write_text(again)
    assert twice(log_lines(tmp_path)) == [(0, 0)]


def test_a_whole_sweep_has_no_problems_and_a_naive_one_believes_every_record(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path / "runs.txt")
    sweep = opened(tmp_path / "sweep", plan_of(trials=8))
    assert work(sweep, log.means(), nothing)
    runs = {(t.number, s) for t in trials_of(sweep) if t.result for s in t.result.seeds}
    for number, seed in runs:
        run = sweep.trials / f"{number:04d}" / f"seed_{seed}"
        run.mkdir()
        row = '{"phase": "loop", "step": 1, "time": 0}\n'
        (run / "metrics.jsonl").write_text(row)
    assert problems(sweep, tmp_path / "logs") == []
    best = float(draws_of(trials_of(sweep)[0], (0,), "kid")[0, 0])
    for trial in improvements(sweep):
        score = float(draws_of(trial, (0,), "kid")[0, 0])
        assert trial.number > 0 and score < best
        best = score
    scored = [t for t in trials_of(sweep) if t.result is not None and t.result.seeds]
    assert best == min(float(draws_of(t, (0,), "kid")[0, 0]) for t in scored)
    run = sweep.trials / "0000" / "seed_0" / "metrics.jsonl"
    run.write_text(run.read_text() * 2)
    (sweep.trials / "0007" / "result.json").unlink()
    assert problems(sweep, tmp_path / "logs") == ["the trials [7] have no end",
                                                  "trial 0, seed 0 has steps twice"]  # fmt: skip
