"""What a sweep finds, and what a naive one would have believed: `python -m benchmarks.sweep`.

    OMP_NUM_THREADS=1 python -m benchmarks.sweep [--trials 30] [--steps 60] [--work DIR]

Two workers sweep LADD on Shapes at a small budget; in the middle one of them is killed (SIGKILL)
and started again. Then it is looked up that every trial is there once and that no run was done
twice but the one that was cut short, and the winner stands on five new training seeds
(watch.sweep_winner_confirmed_gain). A naive sweep has one seed a trial and takes every score below
the best so far for an improvement, from the recipe's on: each of these trials gets the same five
new seeds and is held against the recipe, paired (watch.naive_improvements_surviving). Options that
it does not know go to `fewstep sweep`. The same command goes on where it was stopped. About two
hours on two cores. Writes docs/sweep_results.md and results/tables/sweep.json too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import pages
from benchmarks.common import claim, facts, write_json
from benchmarks.sweep_check import log_lines, problems
from benchmarks.unmeasured import PLANNED
from rich.console import Console

from fewstep import claims
from fewstep.cli.sweeping import means_of
from fewstep.evaluate.statistics import Estimate
from fewstep.report.sweep import worded
from fewstep.sweep.decide import confirmed, is_better
from fewstep.sweep.plan import FILE, read_plan
from fewstep.sweep.runner import run_seed
from fewstep.sweep.store import Sweep, Trial, draws_of, lock, read_scored, trials_of

RECIPE = "ladd_shapes_demo"
VARY = (
    "optim.student.lr=1e-5..1e-3:log", "optim.heads.lr=3e-4..1e-2:log",
    "method.renoise_mean=-1..1", "method.loss=hinge,softplus", "method.student_every=1..4",
)  # fmt: skip
BUDGET = (
    "--method.heads-first", "20", "--optim.student.warmup", "10", "--watch.every", "0",
)  # fmt: skip
"""Warm-ups of 220 steps in proportion to the budget of a trial; and none that goes back on its way,
which would be judged by other steps than the rest."""
WORKERS = 2


def command(args: argparse.Namespace, out: Path, more: Sequence[str]) -> list[str]:
    return [
        sys.executable, "-m", "fewstep.cli", "sweep", RECIPE, *BUDGET, "--vary", *VARY,
        "--trials", str(args.trials), "--steps", str(args.steps), "--top", str(args.top),
        "--fresh", str(args.fresh), "--prompts", str(args.prompts), "--out", str(out), *more,
    ]  # fmt: skip


def start(words: Sequence[str], logs: Path) -> subprocess.Popen[bytes]:
    """A worker, with a log of its own for every time that one is started."""
    logs.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
           "PYTHONUNBUFFERED": "1"}  # fmt: skip
    with (logs / f"{len(log_lines(logs)):03d}.log").open("wb") as said:
        return subprocess.Popen(words, stdout=said, stderr=said, env=env)


def ended(out: Path) -> int:
    return len(list(out.glob("trials/*/result.json")))


def run_workers(args: argparse.Namespace, out: Path, words: Sequence[str]) -> None:
    """To the end; once a third of the trials has ended, and if that has not been done before, one
    of them is killed in a run and started again."""
    struck, logs = args.work / "struck.json", args.work / "logs"
    running = [start(words, logs)]
    time.sleep(args.apart)  # the first draws the teacher's samples
    running += [start(words, logs) for _ in range(WORKERS - 1)]
    try:
        while any(worker.poll() is None for worker in running):
            first = running[0]
            if not struck.exists() and ended(out) >= args.trials // 3 and first.poll() is None:
                first.send_signal(signal.SIGKILL)
                first.wait()
                write_json(struck, {"trials_ended": ended(out)})
                print(f"one worker killed after {ended(out)} trials", flush=True)
                running[0] = start(words, logs)
            time.sleep(1)
    except BaseException:
        for worker in running:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
        raise
    if codes := [worker.returncode for worker in running if worker.returncode]:
        raise RuntimeError(f"a worker ended with {codes[0]}; see {logs}")


def improvements(sweep: Sweep) -> list[Trial]:
    """What a sweep of one seed a trial would have believed, in its order."""
    seed, key = sweep.plan.training_seeds[0], sweep.plan.score_key
    best, found = math.inf, list[Trial]()
    for trial in trials_of(sweep):
        own = read_scored(trial, seed)
        if own is None or own.failed:
            continue
        if (score := float(own.draws[key][0])) < best:
            best = score
            found.append(trial)
    return found[1:]  # the first is the recipe


def survivors(sweep: Sweep, words: str, console: Console) -> list[dict[str, Any]]:
    """Each believed improvement on the new seeds, against the recipe on them."""
    plan, means = sweep.plan, means_of(sweep, words, console)
    rows: list[dict[str, Any]] = []
    recipe = trials_of(sweep)[0]
    first = plan.training_seeds[:1]
    for trial in (recipe, *improvements(sweep)):
        held = lock(trial)
        assert held is not None  # the workers have ended
        with closing(held):
            new = [run_seed(sweep, trial, seed, means) for seed in plan.fresh_seeds]
        if trial.number == 0:
            continue
        believed = draws_of(trial, first, plan.score_key) - draws_of(recipe, first, plan.score_key)
        row: dict[str, Any] = {"trial": trial.number, "change": dict(trial.change),
                               "believed": float(believed[0, 0]), "holds": False}  # fmt: skip
        if not any(one.failed for one in new):
            one, two = (draws_of(t, plan.fresh_seeds, plan.score_key) for t in (trial, recipe))
            gain = confirmed(one, two, plan.prompts, plan.pictures)
            row |= {"gain": gain.to_json(), "holds": is_better(gain, plan.better)}
        rows.append(row)
    return rows


def records(found: dict[str, Any], made: dict[str, Any], fresh: int) -> list[claims.Claim]:
    rows, winner = found["naive"], found["winner"]
    gain = winner["gain"]
    won = Estimate(0.0, math.nan, math.nan, 0, 0)
    note = f"n = new training seeds; winner: trial {winner['number']}"
    if gain is None:
        note += ", the recipe itself"
    else:
        own = Estimate.from_json(gain)
        won = Estimate(-own.value, -own.high, -own.low, own.n_prompts, own.n_seeds)
    alive = Estimate(sum(row["holds"] for row in rows), math.nan, math.nan, 0, 0)
    values = {
        "sweep_winner_confirmed_gain": (won, fresh, note),
        "naive_improvements_surviving": (alive, len(rows), "n = improvements it believed in"),
    }
    return [
        claim(name, PLANNED["watch"][name][0], e, area="watch", made=made, n=n,
              goal=PLANNED["watch"][name][1], note=text)
        for name, (e, n, text) in values.items()
    ]  # fmt: skip


def page(found: dict[str, Any]) -> str:
    def shown(e: dict[str, Any] | None) -> str:
        return "-" if e is None else pages.shown(Estimate.from_json(e))

    naive = pages.markdown(["trial", "change", "KID minus the recipe's, as believed",
                            "on new seeds", "holds"], [
        [str(row["trial"]), worded(row["change"]),
         f"{row['believed']:+.3g}", shown(row.get("gain")), "yes" if row["holds"] else "no"]
        for row in found["naive"]
    ])  # fmt: skip
    top = pages.markdown(["trial", "KID in the sweep", "KID afresh", "winner's curse",
                          "minus the recipe"], [
        [str(own["number"]), shown(own["sweep"]), shown(own["afresh"]), shown(own["curse"]),
         shown(own["gain"])] for own in found["fresh"]
    ])  # fmt: skip
    alive = sum(row["holds"] for row in found["naive"])
    states = ", ".join(f"{n} {state}" for state, n in found["states"].items())
    return (
        "# What a sweep finds, and what a naive one would have believed\n\n"
        f"{found['trials']} trials of {found['steps']} steps ({states}) "
        f"in {found['runs']} training runs by two workers, one of them killed on the way and "
        f"started again: {found['check']}.\n\n{found['verdict']}\n\n{top}\n"
        "## One seed a trial\n\nOf the same trials a sweep with one training seed each would have "
        f"taken {len(found['naive'])} for improvements, one after the other; {alive} of them "
        f"hold on {found['new_seeds']} new seeds beside the recipe.\n\n{naive}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="A sweep against a naive one.")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--fresh", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--apart", type=float, default=60, help="seconds between both workers")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_sweep"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args, more = parser.parse_known_args(given)
    words = shlex.join(["python", "-m", "benchmarks.sweep", *given])
    out = args.work / "sweep"
    run_workers(args, out, command(args, out, more))
    sweep = Sweep(out, read_plan(out / FILE))
    wrong = problems(sweep, args.work / "logs")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    naive = survivors(sweep, words, console)
    own = json.loads((out / "sweep.json").read_bytes())
    states = [row["state"] for row in own["trials"]]
    found = {
        "trials": len(states), "states": {s: states.count(s) for s in dict.fromkeys(states)},
        "steps": args.steps, "runs": own["runs"]["done"], "verdict": own["verdict"],
        "fresh": own["fresh"], "naive": naive, "new_seeds": args.fresh,
        "winner": next(f for f in own["fresh"] if f["number"] == own["winner"]),
        "struck": json.loads((args.work / "struck.json").read_bytes()),
        "check": "; ".join(wrong) or "nothing was lost and nothing run twice",
    }  # fmt: skip
    made = facts(words, 1)
    write_json(args.results / "tables" / "sweep.json", {"schema": 1, **made, **found})
    pages.write_text(args.docs / "sweep_results.md", words, page(found))
    print(f"wrote {claims.write(records(found, made, args.fresh), 'watch', args.results)}")
    print(f"{own['verdict']} Of {len(naive)} naive improvements "
          f"{sum(row['holds'] for row in naive)} hold. {found['check']}.")  # fmt: skip
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
