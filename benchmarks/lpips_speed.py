"""Pairwise LPIPS by a Gram matrix against running the pairs: wall time, and what rounding costs.

    OMP_NUM_THREADS=1 python -m benchmarks.lpips_speed --results results

Time: for each prompt in turn, all pairs of its seeds through our own network in batches (the
fastest of several sizes) and the same distances from one pass an image, in both orders. Random
weights, which cost what real ones do. The trunk alone would give a ratio of seeds - 1.

Error: largest relative error of the distances against differences of the embeddings in float64,
pair by pair, from the same outputs of the trunk: ordinary pictures, near-copies, copies, and all of
them in one set. What the float32 trunk itself rounds away is a record of its own. The records are
`measure.lpips_*`. About six minutes.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.common import claim, facts, weights_of
from numpy.typing import NDArray
from torch import Tensor

from fewstep import claims
from fewstep.evaluate.gram import mean_pairwise_lpips, pairwise_lpips
from fewstep.evaluate.lpips import LPIPS, TRUNKS, build, unit
from fewstep.evaluate.statistics import Estimate, divide, estimate
from fewstep.rng import seed_of
from fewstep.shapes import Pixels

SIDE = 64
BATCHES = (8, 16, 40, 60, 120)
"""Pairs at once; the fastest is what we are compared with."""
PERTURBATIONS = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the time of one network is measured."""

    record: str
    share: int
    """One in so many of the prompts asked for."""
    group: int
    """Prompts timed at once: as many as `mean_pairwise_lpips` takes in one pass, or one."""
    rounds: int
    tries: int
    """Of each batch size."""
    goal: str


PLANS = {
    "lpips-alex": Plan(record="lpips_speedup", share=1, group=8, rounds=6, tries=3, goal=">= 13"),
    "lpips-vgg": Plan(record="lpips_speedup_vgg", share=4, group=1, rounds=1, tries=1, goal=""),
}


def random_net(name: str, seed: int = 0) -> LPIPS:
    """A network with weights of He's scale, from the seed alone."""
    generator = torch.Generator().manual_seed(seed_of("random net", seed))
    state: dict[str, Tensor] = {}
    for key, value in LPIPS(name).state_dict().items():
        if key.startswith("lin"):
            state[key] = torch.rand(value.shape, generator=generator)
            continue
        fan_in = value[0].numel() if value.ndim == 4 else 200.0
        state[key] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
    return build(name, state)


def pictures(n: int, seed: int, side: int = SIDE) -> Pixels:
    """Smooth random pictures."""
    generator = torch.Generator().manual_seed(seed_of("pictures", seed))
    coarse = 0.1 + 0.8 * torch.rand(n, 3, 8, 8, generator=generator)
    return F.interpolate(coarse, size=(side, side), mode="bilinear")


def near(image: Pixels, n: int, size: float, seed: int = 0) -> Pixels:
    """(n, 3, side, side): copies of one image, each with its own noise of that size."""
    generator = torch.Generator().manual_seed(seed_of("near", seed))
    noise = torch.randn(n, *image.shape[1:], generator=generator)
    return (image + size * noise).clamp(0, 1)


def picture_sets(side: int = SIDE) -> dict[str, Pixels]:
    """Sets of pictures that differ much, little, not at all, and all of this in one."""
    some = pictures(6, seed=1, side=side)
    sets = {"ordinary": some, "identical": some[:1].expand(6, -1, -1, -1)}
    sets |= {f"near {size:g}": near(some[:1], 6, size) for size in PERTURBATIONS}
    sets["mixed"] = torch.cat([some, some[2:4], near(some[:1], 2, 1e-3), near(some[3:4], 2, 1e-5)])
    return sets


@torch.no_grad()
def direct(net: LPIPS, images: Pixels) -> NDArray[np.float64]:
    """(n, n): the definition, each pair by itself, in float64 from the outputs of the trunk on."""
    n = len(images)
    result = np.zeros((n, n))
    for features, w in zip(net.maps(images), net.weights, strict=True):
        u = unit(features.double())
        for i in range(n):
            for j in range(i):
                square = (u[i] - u[j]) ** 2 * w.double()[:, None, None]
                result[i, j] += square.sum(0).mean().item()
    return result + result.T


def relative_error(found: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Largest |found - right| / right; absolute where right is 0."""
    return float((np.abs(found - right) / np.where(right > 0, right, 1)).max())


@torch.no_grad()
def by_pairs(net: LPIPS, images: Pixels, batch: int) -> NDArray[np.float64]:
    """(pairs,): every pair through the network, `batch` at a time."""
    pairs = torch.triu_indices(len(images), len(images), offset=1)
    return torch.cat([net(images[i], images[j]) for i, j in pairs.split(batch, 1)]).numpy()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


@dataclass(frozen=True)
class Speed:
    """Of one network: ratio of the pairs' time to ours, over groups of prompts."""

    wall: Estimate
    busy: Estimate
    seconds: tuple[float, float]
    """Of the pairs and of ours, for each prompt."""
    batch: int


def speed(name: str, prompts: int, seeds: int, plan: Plan) -> Speed:
    """Both ways on each group of prompts, in turn and in both orders, after one untimed group."""
    net = random_net(name)
    batch = fastest(net, pictures(seeds, seed=0), plan.tries)
    index = np.repeat(np.arange(plan.group), seeds)
    groups = prompts // plan.group
    mean_pairwise_lpips(net, pictures(plan.group * seeds, seed=0), index, plan.group)
    times = np.zeros((plan.rounds * groups, 2, 2))  # turn, way, clock or processor
    for turn in range(len(times)):
        images = pictures(plan.group * seeds, seed=turn % groups)
        ways = (
            lambda images=images: [by_pairs(net, own, batch) for own in images.split(seeds)],
            lambda images=images: mean_pairwise_lpips(net, images, index, plan.group),
        )
        for way in (0, 1) if turn % 2 else (1, 0):
            times[turn, way] = timed(ways[way])
    pairs, ours = times[..., 0].mean(0) / plan.group
    wall, busy = _ratio(times[..., 0], seeds), _ratio(times[..., 1], seeds)
    return Speed(wall, busy, (float(pairs), float(ours)), batch)


def _ratio(times: NDArray[np.float64], seeds: int) -> Estimate:
    weights = weights_of(len(times))
    return estimate(divide(weights @ times[:, 0], weights @ times[:, 1]), len(times), seeds)


def fastest(net: LPIPS, images: Pixels, tries: int) -> int:
    """The batch with which the pairs take least time."""
    tried = {b: min(timed(lambda b=b: by_pairs(net, images, b))[0] for _ in range(tries))
             for b in BATCHES}  # fmt: skip
    print(f"{net.name}: seconds of the pairs by batch "
          f"{ {b: round(seconds, 3) for b, seconds in tried.items()} }")  # fmt: skip
    return min(tried, key=lambda b: tried[b])


def errors() -> dict[str, tuple[float, float]]:
    """By network and set: error given the trunk's outputs, and against a trunk in float64 too."""
    found: dict[str, tuple[float, float]] = {}
    for name in TRUNKS:
        net = random_net(name)
        double = copy.deepcopy(net).double()
        for kind, images in picture_sets().items():
            ours = pairwise_lpips(net, images)
            right = direct(net, images), direct(double, images)
            found[f"{name} {kind}"] = relative_error(ours, right[0]), relative_error(ours, right[1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Pairwise LPIPS: time and error.")
    parser.add_argument("--prompts", type=int, default=32, help="for lpips-alex; a quarter for vgg")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--results", type=Path, help="folder to write the records to")
    args = parser.parse_args()
    if args.prompts < 16:
        parser.error(f"--prompts must be at least 16 for an interval, got {args.prompts}")
    torch.set_num_threads(1)
    error = errors()
    for name, (gram, trunk) in error.items():
        print(f"{name}: error {gram:.2g}, with the trunk's {trunk:.2g}")
    found = {n: speed(n, args.prompts // p.share, args.seeds, p) for n, p in PLANS.items()}
    for name, f in found.items():
        print(f"{name}: {f.wall}, processor {f.busy.value:.4g}, seconds a prompt {f.seconds}, "
              f"pairs in batches of {f.batch}")  # fmt: skip
    if args.results is None:
        return
    command = (
        f"OMP_NUM_THREADS=1 python -m benchmarks.lpips_speed --prompts {args.prompts} "
        f"--seeds {args.seeds} --results results"
    )
    made = facts(command, 1)
    records = [
        claim(
            plan.record, f"wall time of all pairs of {args.seeds} seeds through {name} over that "
            f"of one pass an image and a Gram matrix, {SIDE} px", f.wall, made=made, area="measure",
            n=f.wall.n_prompts, unit="x", goal=plan.goal,
            note=f"n = interleaved groups, each of {plan.group} of {args.prompts // plan.share} "
            f"prompts; of processor time {f.busy.value:.4g} ({f.busy.low:.4g} to "
            f"{f.busy.high:.4g}); seconds a prompt {f.seconds[0]:.3g} and {f.seconds[1]:.3g}; "
            f"pairs in batches of {f.batch}, the fastest of {BATCHES}; random weights; the trunk "
            f"alone would give {args.seeds - 1}",
        )
        for name, plan, f in ((name, PLANS[name], f) for name, f in found.items())
    ]  # fmt: skip
    kinds = (
        ("lpips_error", "from the same trunk outputs", "<= 0.000001",
         "absolute where the distance is 0"),
        ("lpips_trunk_error", "with the trunk in float64 too", "",
         "what the float32 trunk rounds away, at distances down to 1e-8; net.double() avoids it"),
    )  # fmt: skip
    sets = picture_sets()
    for at, (record, what, goal, note) in enumerate(kinds):
        worst = {k: max(e[at] for name, e in error.items() if name.endswith(k)) for k in sets}
        told = ", ".join(f"{k} {value:.2g}" for k, value in worst.items())
        records.append(claim(
            record, f"largest relative error of pairwise LPIPS against float64, {what}",
            Estimate(max(worst.values()), np.nan, np.nan, 0, 0), made=made, area="measure",
            n=len(TRUNKS) * sum(len(x) * (len(x) - 1) // 2 for x in sets.values()), goal=goal,
            note=f"n = pairs of pictures, both networks; {note}; by set: {told}",
        ))  # fmt: skip
    print(f"wrote {claims.write(records, 'measure', args.results)}")


if __name__ == "__main__":
    main()
