"""Precomputed teacher samples: the same whoever makes them, how fast, and how fast they load.

    OMP_NUM_THREADS=1 python -m benchmarks.precompute [--samples 10000 --steps 2]

identity    so many Shapes samples by one quiet worker, and by up to three at once that start, are
            killed (SIGKILL, or SIGTERM) and start again at random; then a flipped bit, a truncated,
            an empty and an all-zero shard
growth      processor time a sample at 100, 1,000 and all of them
speed       the same samples at 20 steps by a plain loop over the diffusers pipeline, one prompt a
            call, and 32 prompts a call, against what a worker computes for a shard (the recipe's
            dense engine, nothing written); rounds alternate, and a ratio is of processor time
loading     samples in random order, beside one .pt file a sample (torch.load, weights_only)

Writes results/tables/precompute.json, docs/precompute.md and the records survive.precompute_* and
survive.load_ms_per_sample.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import pages
from benchmarks.common import claim, facts, write_json
from benchmarks.precompute_workers import Crowd, alone, damaged, difference, words
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.data.cache import SampleCache, read_key
from fewstep.data.drawing import draw
from fewstep.data.index import read_index
from fewstep.data.teacher import TeacherSamples, rows_of
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.models import load_family
from fewstep.worlds.shapes.world import Shapes

ROUNDS = 5
IN_A_ROUND = 32
"""Samples."""
STEPS = 20


def identity(samples: int, steps: int, folder: Path) -> dict[str, Any]:
    """Quiet and crowd, and what became of damage."""
    quiet, busy = folder / "quiet", folder / "busy"
    took = alone(words(samples, steps, quiet), folder / "quiet.log")
    crowd = Crowd(words(samples, steps, busy), folder / "busy.log", random.Random(0))
    events = crowd.run()
    return {
        "samples": samples, "steps": steps, "quiet": took, "events": events,
        "different": difference(quiet, busy),
        "damage": damaged(busy, words(samples, steps, busy), folder / "busy.log"),
    }  # fmt: skip


def growth(samples: int, steps: int, folder: Path, last: dict[str, float]) -> list[dict[str, Any]]:
    rows = [
        {"samples": n, **alone(words(n, steps, folder / f"grown{n}"), folder / "grown.log")}
        for n in (100, 1_000) if n < samples
    ]  # fmt: skip
    return [*rows, {"samples": samples, **last}]


def speed() -> dict[str, list[float]]:
    """Processor seconds a sample of each way, a number for each round."""
    cfg = TeacherSamples(steps=STEPS, guidance=2.0)
    family = load_family("shapes", torch.device("cpu"), engine="fused")
    plain = load_family("shapes", torch.device("cpu"))
    prompts = Shapes().prompts("train", (ROUNDS + 1) * IN_A_ROUND)

    @torch.no_grad()
    def pipeline(part: Sequence[str], at_once: int) -> None:
        scale = plain.pipeline_guidance(cfg.guidance)
        for i in range(0, len(part), at_once):
            plain.pipeline(
                list(part[i : i + at_once]), height=64, width=64, num_inference_steps=STEPS,
                guidance_scale=scale, output_type="latent",
                generator=torch.Generator().manual_seed(i),
            )  # fmt: skip

    ways: dict[str, Callable[[Sequence[str]], object]] = {
        "precompute": lambda part: draw(cfg, family, rows_of(cfg, part), None, lambda done: None),
        "pipeline, one prompt a call": partial(pipeline, at_once=1),
        "pipeline, 32 prompts a call": partial(pipeline, at_once=IN_A_ROUND),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    plain.pipeline.set_progress_bar_config(disable=True)
    for r in range(ROUNDS + 1):
        part = prompts[r * IN_A_ROUND : (r + 1) * IN_A_ROUND]
        for name, way in ways.items():
            begun = time.process_time()
            way(part)
            if r:  # the first round fills caches
                found[name].append((time.process_time() - begun) / len(part))
    return found


def loading(directory: Path, folder: Path) -> dict[str, Any]:
    """Milliseconds a sample by the clock, of files that the system has in memory."""
    index = read_index(directory)
    assert index is not None
    cache = SampleCache(directory, read_key(directory)[0], index)
    order = np.random.default_rng(0).permutation(len(cache))[:5000].tolist()
    folder.mkdir()
    for i in order:
        x0, cond = cache.take([i])
        torch.save({"x0": x0[0].clone(), "tokens": cond.tokens[0].clone()}, folder / f"{i}.pt")
    ways: dict[str, Callable[[int], object]] = {
        "shards": lambda i: cache.take([i]),
        "one .pt a sample": lambda i: torch.load(folder / f"{i}.pt", weights_only=True),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for r in range(ROUNDS + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            for i in order[r :: ROUNDS + 1]:
                way(i)
            if r:
                taken = time.perf_counter() - begun
                found[name].append(1000 * taken / len(order[r :: ROUNDS + 1]))
    begun = time.perf_counter()
    SampleCache(directory, cache.key, index)
    return {"ms": found, "rows": len(order), "open_seconds": time.perf_counter() - begun}


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Estimate:
    """Of paired rounds: the geometric mean, with a t-interval of the logarithms."""
    logs = np.log(np.array(slow) / np.array(fast))
    half = 2.776 * logs.std(ddof=1) / math.sqrt(len(logs))  # t at 97.5 % with 4 degrees
    middle = logs.mean()
    edges = math.exp(middle - half), math.exp(middle + half)
    return Estimate(math.exp(middle), *edges, len(logs), len(logs))


def page(found: dict[str, Any]) -> str:
    own, grown, fast, load = (found[k] for k in ("identity", "growth", "speed", "loading"))
    events, damage = own["events"], own["damage"]
    came = ", ".join(f"{n} {what}" for what, n in events.items())
    drawn = fast["precompute"]
    return (
        "# Precomputed teacher samples\n\n"
        f"**The same, whoever makes them.** {own['samples']:,} Shapes samples of {own['steps']} "
        f"steps by one worker, and by up to three at once of which some are killed (SIGKILL or "
        f"SIGTERM) at random ({came}): {len(own['different'])} of all files differ. Then one shard "
        f"with a flipped bit, one truncated, one empty, one of zeros: `verify` names "
        f"{damage['named']} of {damage['planted']} and {damage['named_wrongly']} others; the same "
        f"command makes {len(damage['made_anew'])} anew, "
        f"{'these and no others' if damage['only_these'] else 'and not only these'}, and every "
        f"byte is {'as it was' if damage['as_before'] else 'NOT as it was'}.\n\n"
        "**Growth**, start of the command and loading of the model included:\n\n"
        + pages.markdown(["samples", "processor seconds", "milliseconds a sample"], [
            [f"{r['samples']:,}", f"{r['cpu_seconds']:.1f}",
             f"{1000 * r['cpu_seconds'] / r['samples']:.1f}"] for r in grown
        ])
        + f"\n**Speed**, {STEPS} steps with guidance, on one thread, in processor time, of what "
        "is computed (precompute by the dense engine of the recipe, the pipeline by diffusers' own "
        f"code; nothing is written); ratios over {ROUNDS} paired rounds of {IN_A_ROUND} samples, "
        "95 % (t):\n\n"
        + pages.markdown(["way", "seconds a sample", "over precompute"], [
            [name, f"{np.mean(values):.3f}",
             pages.shown(ratio(values, drawn), 1, ".2f", "") if values is not drawn else ""]
            for name, values in fast.items()
        ])
        + f"\n**Loading** {load['rows']:,} samples in random order from memory, by the clock:\n\n"
        + pages.markdown(["way", "milliseconds a sample", "over shards"], [
            [name, f"{np.mean(values):.3f}",
             pages.shown(ratio(values, load["ms"]["shards"]), 1, ".2f", "")
             if name != "shards" else ""]
            for name, values in load["ms"].items()
        ])
        + f"\nEach row's crc32 is verified at every read of a shard, and never of a .pt. Opening "
        f"takes {load['open_seconds']:.2f} s.\n"
    )  # fmt: skip


def records(found: dict[str, Any], made: dict[str, Any]) -> list[claims.Claim]:
    own, fast, load = found["identity"], found["speed"], found["loading"]["ms"]
    damage, nothing = own["damage"], math.nan
    same = not own["different"] and damage["as_before"] and damage["only_these"]
    identical = same and damage["named"] == damage["planted"] and not damage["named_wrongly"]
    ms = np.array(load["shards"])
    half = 2.776 * ms.std(ddof=1) / math.sqrt(len(ms))
    pt = np.mean(load["one .pt a sample"])
    events = ", ".join(f"{n} {what}" for what, n in own["events"].items())
    by_one = ratio(fast["pipeline, one prompt a call"], fast["precompute"])
    by_32 = ratio(fast["pipeline, 32 prompts a call"], fast["precompute"])
    stated = (
        ("precompute_identical", Estimate(float(identical), nothing, nothing, 0, 0),
         own["samples"], "", f"n = samples; workers: {events}; four damaged shards made anew"),
        ("precompute_speedup", by_one, ROUNDS, "x", f"n = paired rounds of {IN_A_ROUND}; dense "
         "engine against the pipeline's own code; one prompt a call; 32 a call "
         f"{by_32.value:.2f} times"),
        ("load_ms_per_sample", Estimate(float(ms.mean()), float(ms.mean() - half),
         float(ms.mean() + half), ROUNDS, ROUNDS), ROUNDS, "ms",
         f"n = rounds of {found['loading']['rows'] // (ROUNDS + 1)} samples; one .pt a sample "
         f"{pt:.3f} ms"),
    )  # fmt: skip
    return [
        claim(name, PLANNED["survive"][name][0], e, made=made, n=n, unit=unit, note=note,
              goal=PLANNED["survive"][name][1], area="survive")
        for name, e, n, unit, note in stated
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Precomputed teacher samples.")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=2, help="of identity and growth")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(given)
    command = shlex.join(["python", "-m", "benchmarks.precompute", *given])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"identity": identity(args.samples, args.steps, folder)}
        print(json.dumps(found["identity"]), flush=True)
        found["growth"] = growth(args.samples, args.steps, folder, found["identity"]["quiet"])
        print(json.dumps(found["growth"]), flush=True)
        found["loading"] = loading(folder / "quiet", folder / "pt")
        print(json.dumps(found["loading"]), flush=True)
        torch.set_num_threads(1)
        found["speed"] = speed()
        print(json.dumps(found["speed"]), flush=True)
    made = facts(command, 1)
    write_json(args.results / "tables" / "precompute.json", {"schema": 1, **made, **found})
    pages.write_text(args.docs / "precompute.md", command, page(found))
    print(f"wrote {claims.write(records(found, made), 'survive', args.results)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
