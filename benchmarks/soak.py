"""An hour of kills: LADD on Shapes by two processes that die every few minutes and start again.

    python -m benchmarks.soak [--minutes 60] [--work runs/soak]

torchrun starts the same command again and again; after one to three minutes one of its processes is
killed (SIGKILL), or all of them with torchrun, or torchrun is asked to stop (SIGTERM). Beside it
the same training runs undisturbed, and at the end the newest checkpoint of the tortured run is held
against the quiet run's of the same step, byte for byte: weights, average, both optimizers,
counters. The same command goes on where it was stopped, but for an hour that was not over. Writes
docs/soak.md and the record survive.soak_identical.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks import pages
from benchmarks.common import claim, facts, write_json
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.train.checkpoint import flaw

RECIPE = "ladd_shapes_demo"
EVERY = 10
"""Steps between two checkpoints."""
PAUSES = (60.0, 180.0)
"""Seconds between two kills."""
PATIENCE = 300.0
"""Seconds that torchrun may take to end."""

Blow = Literal["one killed", "all killed", "asked to stop"]


def command(out: Path, keep: int, steps: int) -> list[str]:
    values = {
        "out": out, "loop.steps": steps, "loop.checkpoint-every": EVERY, "loop.keep": keep,
        "loop.log-every": EVERY, "sampling.every": steps, "data.micro-batch": 16, "threads": 1,
    }  # fmt: skip
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "fewstep.cli",
        "train", RECIPE, *(f"--{key}={value}" for key, value in values.items()),
    ]  # fmt: skip


def start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Out of the reach of a Ctrl-C at this terminal."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("ab") as said:
        return subprocess.Popen(words, stdout=said, stderr=said, env=env, start_new_session=True)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def strike(running: subprocess.Popen[bytes], blow: Blow, dice: random.Random) -> None:
    """Kill, and wait until nobody is left."""
    own = children(running.pid)
    match blow:
        case "one killed":
            kill(dice.choice(own) if own else running.pid)
        case "all killed":
            kill(running.pid, *own)
        case "asked to stop":
            running.send_signal(signal.SIGTERM)
    end(running, own)


def end(running: subprocess.Popen[bytes], own: Sequence[int]) -> None:
    """Wait for torchrun; what it has left behind goes."""
    try:
        running.wait(PATIENCE)
    finally:
        kill(running.pid, *own)
    running.wait()


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def steps_of(out: Path) -> dict[int, Path]:
    """Whole checkpoints by step."""
    found = {int(p.name.split("_")[1]): p for p in (out / "checkpoints").glob("step_*")}
    return {step: path for step, path in found.items() if flaw(path) is None}


@dataclass
class Soak:
    out: Path
    words: Sequence[str]
    log: Path
    dice: random.Random
    blows: Counter[Blow] = field(default_factory=Counter)
    reached: list[int] = field(default_factory=list)
    """The newest checkpoint after each blow."""

    def run(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        while (left := over - time.monotonic()) > 0:
            running = start(self.words, self.log)
            with suppress(subprocess.TimeoutExpired):
                running.wait(min(left, self.dice.uniform(*PAUSES)))
                raise RuntimeError(f"the training ended by itself with {running.returncode}; see "
                                   f"{self.log}")  # fmt: skip
            last = over - time.monotonic() <= 0
            blow: Blow = "asked to stop" if last else self.dice.choice(get_args(Blow))
            strike(running, blow, self.dice)
            self.blows[blow] += 1
            self.reached.append(max(steps_of(self.out), default=0))
            print(f"{blow}; step {self.reached[-1]}", flush=True)


def differing(one: Path, two: Path) -> list[str]:
    """Files of two checkpoints that are not the same."""
    names = {p.name for d in (one, two) for p in d.iterdir()}
    return sorted(
        name for name in names
        if not ((one / name).is_file() and (two / name).is_file())
        or (one / name).read_bytes() != (two / name).read_bytes()
    )  # fmt: skip


def compared(out: Path, quiet: Path, running: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The newest step at which both have a checkpoint, once the quiet run has come so far."""
    wanted = max(step for step in steps_of(out) if step % EVERY == 0)
    while wanted not in steps_of(quiet):
        if running.poll() is not None:
            raise RuntimeError(f"the quiet run ended by itself with {running.returncode}")
        time.sleep(5)
    one, two = steps_of(out)[wanted], steps_of(quiet)[wanted]
    return {"step": wanted, "files": sorted(p.name for p in one.iterdir()),
            "different": differing(one, two)}  # fmt: skip


def page(found: dict[str, Any]) -> str:
    same = "no file differs" if not found["different"] else f"these differ: {found['different']}"
    blows = ", ".join(f"{n} times {name}" for name, n in found["blows"].items())
    return (
        "# An hour of kills\n\n"
        f"LADD on Shapes by two processes under torchrun for {found['minutes']:.0f} minutes, with "
        f"a checkpoint every {EVERY} steps; every one to three minutes struck and started again: "
        f"{blows}. At step {found['step']} the checkpoint is held against that of a run that "
        f"nothing disturbed, file by file ({', '.join(found['files'])}): {same}.\n\n"
        f"Newest checkpoint after each blow: {', '.join(map(str, found['reached']))}.\n"
    )


def record(found: dict[str, Any], made: dict[str, Any]) -> claims.Claim:
    text, goal, _ = PLANNED["survive"]["soak_identical"]
    same, nothing = float(not found["different"]), math.nan
    note = f"n = kills in {found['minutes']:.0f} minutes; step {found['step']}; {found['blows']}"
    return claim("soak_identical", text, Estimate(same, nothing, nothing, 0, 0), made=made,
                 n=sum(found["blows"].values()), goal=goal, note=note, area="survive")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="An hour of kills.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=5000, help="more than will be reached")
    parser.add_argument("--work", type=Path, default=Path("runs/soak"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(given)
    words = shlex.join(["python", "-m", "benchmarks.soak", *given])
    out, quiet, struck = args.work / "struck", args.work / "quiet", args.work / "struck.json"
    if out.exists() and not struck.exists():
        raise SystemExit(f"the hour of {out} was not over; begin anew with another --work")
    args.work.mkdir(parents=True, exist_ok=True)
    # both read the same teacher samples
    subprocess.run([sys.executable, "-m", "fewstep.cli", "precompute", RECIPE], check=True)
    undisturbed = start(command(quiet, 10_000, args.steps), args.work / "quiet.log")
    try:
        if not struck.exists():
            words_of = command(out, 3, args.steps)
            soak = Soak(out, words_of, args.work / "struck.log", random.Random(0))
            soak.run(60 * args.minutes)
            write_json(struck, {"minutes": args.minutes, "blows": dict(soak.blows),
                                "reached": soak.reached})  # fmt: skip
        found = json.loads(struck.read_bytes()) | compared(out, quiet, undisturbed)
    finally:
        own = children(undisturbed.pid)
        undisturbed.send_signal(signal.SIGTERM)
        end(undisturbed, own)
    print(json.dumps(found), flush=True)
    made = facts(words, 2)
    write_json(args.results / "tables" / "soak.json", {"schema": 1, **made, **found})
    pages.write_text(args.docs / "soak.md", words, page(found))
    print(f"wrote {claims.write([record(found, made)], 'survive', args.results)}")
    return int(bool(found["different"]))


if __name__ == "__main__":
    raise SystemExit(main())
