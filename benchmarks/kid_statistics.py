"""The statistics of KID on real pictures: bias with shared prompts, coverage of intervals, time.

    OMP_NUM_THREADS=1 python -m benchmarks.kid_statistics --results results

Bias: two samples of the teacher's pictures at 4 steps, of the same prompts, are drawn again and
again from one pool. They have one distribution, so the mean of a KID over the trials is its bias.
Coverage: 1500 test prompts with the teacher's pictures at 4 and at 20 steps are the population,
whose values are known; prompts are drawn from it and the project's intervals computed. Also the FD
of two sets of true pictures, at the least number of pictures for which FD is given.

Writes docs/kid_statistics.md, docs/figures/kid_statistics.png and the records measure.kid_*,
measure.interval_coverage*, measure.fd_same_distribution. The teacher's pictures take about 15
minutes on one CPU thread and are kept in runs/studies/measured; the rest takes two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from benchmarks import common, pages
from benchmarks.common import Roots, claim, drawn, true_pictures
from benchmarks.kid_page import MAIN, NAMES, Findings, page, plot
from benchmarks.kid_trials import (
    QUANTITIES,
    Population,
    bias_trials,
    coverage_trials,
    frechet_trials,
    seconds,
)

from fewstep import claims
from fewstep.evaluate.fidelity import prompt_kernels
from fewstep.evaluate.frechet import IMAGES_PER_WIDTH, same_distribution
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.statistics import over_runs
from fewstep.experiment.models import load_family
from fewstep.rng import seed_of
from fewstep.worlds.shapes.world import Shapes

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.kid_statistics --results results"
FEW, FULL = 4, 20
"""Steps of the teacher, without guidance."""
TRUTH = 1_000_000
"""First seed of the true pictures of the population."""
SIZES = (16, 32, MAIN, 128)
"""Prompts of an evaluation."""
IMAGES, RUNS = 1000, 9


def main() -> None:
    parser = argparse.ArgumentParser(description="The statistics of KID on pictures of Shapes.")
    common.add_common(parser)
    parser.set_defaults(prompts=MAIN, engine="fused")
    parser.add_argument("--pool", type=int, default=32, help="pictures a prompt, for the bias")
    parser.add_argument("--trials", type=int, default=200, help="of the bias")
    parser.add_argument("--population", type=int, default=1500, help="prompts, for the coverage")
    parser.add_argument("--population-seeds", type=int, default=3)
    parser.add_argument("--coverage-trials", type=int, default=1000)
    args = parser.parse_args()
    where, world = common.roots(args), Shapes()
    family = load_family(args.model, common.few_threads(args.threads), engine=args.engine)

    def see(prompts: int, seeds: int, steps: int) -> Measures:
        spec = GenerationSpec(
            model=f"teacher, {steps} steps", fingerprint=family.fingerprint(),
            prompts=tuple(world.prompts("test", prompts)), seeds=tuple(range(seeds)),
            sigmas=family.sigmas(steps), sampler=family.sampler, guidance=1,
        )  # fmt: skip
        how = {"engine": args.engine, "batch": args.batch}
        return drawn(where.measured, family, spec, world, **how).measures

    found = measured(args, see, where, world)
    made = common.facts(COMMAND, args.threads)
    plot(found, where.docs / "figures" / "kid_statistics.png")
    pages.write_text(where.docs / "kid_statistics.md", COMMAND, page(found))
    print(f"wrote {claims.write(records(found, made), 'measure', where.results)}")


def measured(
    args: argparse.Namespace, see: Callable[[int, int, int], Measures], where: Roots, world: Shapes
) -> Findings:
    """All trials; `see` draws prompts x seeds pictures of the teacher at some steps."""
    cubes = shaped(see(args.prompts, args.pool, FEW))
    few, full = (see(args.population, args.population_seeds, steps) for steps in (FEW, FULL))
    seeds = range(TRUTH, TRUTH + args.population_seeds)
    truth = true_pictures(where.measured, world, few.prompts, seeds)
    theirs, index = truth.features["shapes"], truth.index
    population = Population(
        few=prompt_kernels(few.features["shapes"], index, theirs, index),
        full=prompt_kernels(full.features["shapes"], index, theirs, index),
        right_few=few.adherence["all"].reshape(-1, few.n_seeds).mean(1),
        right_full=full.adherence["all"].reshape(-1, full.n_seeds).mean(1),
    )

    def rng(what: str) -> np.random.Generator:
        return np.random.default_rng(seed_of("kid statistics", what))

    width = theirs.shape[1]
    least = -(-IMAGES_PER_WIDTH * width // truth.n_seeds)
    images = least * truth.n_seeds
    return Findings(
        bias=bias_trials(cubes, args.seeds, args.trials, rng("bias")),
        bias_size=(args.prompts, args.seeds, args.pool),
        truth=population.truth(),
        population=(population.n_prompts, few.n_seeds),
        coverage={
            size: coverage_trials(population, size, args.coverage_trials, rng(f"coverage {size}"))
            for size in SIZES
        },
        coverage_trials=args.coverage_trials,
        seconds={(d, s): seconds(IMAGES, s, d, RUNS) for d in (96, 2048) for s in (4, 1)},
        fd=frechet_trials(shaped(truth), least, args.trials, rng("fd")),
        fd_size=(images, width),
        fd_foretold=same_distribution(theirs, images, images),
        fd_variance=float(theirs.var(0).sum()),
    )


def shaped(m: Measures) -> np.ndarray:
    """(prompts, pictures, d) features."""
    return m.features["shapes"].reshape(len(m.prompts), m.n_seeds, -1)


def records(found: Findings, made: Mapping[str, Any]) -> list[claims.Claim]:
    prompts, each, pool = found.bias_size
    full = found.truth["kid_full"]

    def bias(name: str, label: str, values: np.ndarray) -> claims.Claim:
        e = over_runs(list(values))
        return claim(
            f"kid_{name}_bias", f"mean KID, {label}, of two samples of one distribution that share "
            "their prompts", e, made=made, n=len(values), area="measure",
            note=f"the truth is 0; {prompts} prompts x {each} pictures a side of the teacher at "
            f"{FEW} steps, no picture on both sides; n = trials, which share a pool of {pool} "
            f"pictures a prompt; standard deviation of a trial {values.std(ddof=1):.2g}; the mean "
            f"is {100 * e.value / full:.2g} % of the teacher's KID at {FULL} steps ({full:.3g})",
        )  # fmt: skip

    def coverage(name: str) -> claims.Claim:
        c, first = found.coverage[MAIN][name], name == QUANTITIES[0]
        population, seeds = found.population
        return claim(
            "interval_coverage" if first else f"interval_coverage_{name}",
            f"share of 95 % intervals that hold the true value: {NAMES[name]}", c.share,
            made=made, n=found.coverage_trials, area="measure", goal="0.9 to 0.98" if first else "",
            note=f"n = trials of {MAIN} prompts x {seeds} pictures, drawn without replacement from "
            f"{population} test prompts, which makes estimates {100 * shrunk(found):.1f} % less "
            f"spread than from all prompts; true value {found.truth[name]:.3g}; bootstrap over "
            f"true standard deviation {c.spread:.3g}; Wilson interval",
        )  # fmt: skip

    dearest = found.seconds[2048, 1]
    images, width = found.fd_size
    return [
        bias("standard", "standard estimator", found.bias.standard),
        bias("prompt_aware", "prompt-aware estimator", found.bias.prompt_aware),
        *(coverage(name) for name in QUANTITIES),
        claim(
            "kid_bootstrap_seconds", f"KID with 1000 replicates over prompts, {IMAGES} x {IMAGES} "
            "images", dearest.clock, made=made, n=RUNS, goal="<= 1", unit="s", area="measure",
            note="from features of width 2048 to the interval, one image a prompt, which is the "
            f"dearest; n = runs, median by the clock beside other work, {dearest.busy.value:.2g} s "
            "of the processor; "
            + "; ".join(f"d = {d}, {s} a prompt: {t.clock.value:.2g} s, {t.busy.value:.2g} s"
                        for (d, s), t in found.seconds.items() if t is not dearest),
        ),
        claim(
            "fd_same_distribution", "FD of two sets of true pictures at the least number allowed",
            found.fd, made=made, n=found.fd.n_runs, area="measure",
            note=f"{images} images a side of width {width}, no prompt on both sides; the truth is "
            f"0; {100 * found.fd.value / found.fd_variance:.2g} % of the variance of the features; "
            f"independent images of a Gaussian would give {found.fd_foretold:.3g}; n = trials, "
            "which share their pictures",
        ),
    ]  # fmt: skip


def shrunk(found: Findings) -> float:
    """How much less an estimate spreads, since the population is finite."""
    return 1 - (1 - MAIN / found.population[0]) ** 0.5


if __name__ == "__main__":
    main()
