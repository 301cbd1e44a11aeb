"""The page and the figure of `benchmarks.kid_statistics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks import pages
from benchmarks.kid_trials import QUANTITIES, Bias, Coverage, Seconds
from benchmarks.pages import percent, shown

from fewstep.evaluate.statistics import Estimate, over_runs
from fewstep.report.plots import COLOURS

MAIN = 64
"""Prompts of the evaluation that the records are about."""

NAMES = {
    "kid_difference": "KID at 4 steps minus at 20, paired",
    "kid_few": "KID at 4 steps",
    "kid_full": "KID at 20 steps",
    "adherence_difference": "adherence at 4 steps minus at 20, paired",
}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured."""

    bias: Bias
    bias_size: tuple[int, int, int]
    """Prompts, pictures of each on a side, and in the pool."""
    truth: Mapping[str, float]
    population: tuple[int, int]
    """Prompts, pictures of each."""
    coverage: Mapping[int, Mapping[str, Coverage]]
    """By prompts of an evaluation, then by quantity."""
    coverage_trials: int
    seconds: Mapping[tuple[int, int], Seconds]
    """By width of the features and images a prompt."""
    fd: Estimate
    fd_size: tuple[int, int]
    """Images a side, width."""
    fd_foretold: float
    fd_variance: float


def page(found: Findings) -> str:
    prompts, each, pool = found.bias_size
    full, few = found.truth["kid_full"], found.truth["kid_few"]
    rows = [
        [name, shown(e := over_runs(list(values))), f"{values.std(ddof=1):.2g}",
         f"{100 * e.value / full:.2g} %", f"{100 * e.value / few:.2g} %"]
        for name, values in (("standard", found.bias.standard),
                             ("prompt-aware", found.bias.prompt_aware))
    ]  # fmt: skip
    images, width = found.fd_size
    population, seeds = found.population
    return (
        "# The statistics of KID\n\n"
        "Measured on pictures of Shapes by the teacher without guidance. Brackets hold 95 % "
        "intervals.\n\n"
        "![Bias of two estimators, and coverage of the intervals](figures/kid_statistics.png)\n\n"
        "## Bias where both sets share their prompts\n\n"
        f"KID between two samples of {prompts} prompts x {each} pictures at 4 steps, which have "
        f"one distribution: its mean over {len(found.bias.standard)} trials is the bias. The "
        f"pictures of a trial come from a pool of {pool} a prompt, none on both sides, so the "
        "interval is for these prompts and this pool.\n\n"
        + pages.markdown(
            ["estimator", "bias", "standard deviation of a trial", "of the KID at 20 steps "
             f"({full:.3g})", f"of the KID at 4 steps ({few:.3g})"], rows)
        + f"\nThe formula in `fewstep.evaluate.kernels` foretells {found.bias.foretold:.3g} for "
        "the standard estimator. Its bias falls with the number of pictures. The prompt-aware "
        "estimator leaves out pairs of one prompt.\n\n"
        "## Coverage of the intervals\n\n"
        f"{found.coverage_trials} trials in each cell: prompts are drawn from {population} test "
        f"prompts with {seeds} pictures each, and the 95 % interval of the bootstrap over prompts "
        "(1000 resamples) is held against the value on all of them. Drawing without replacement "
        "makes the estimates spread less by half the share of prompts drawn, which helps "
        f"coverage at the larger sizes. The records are for {MAIN} prompts.\n\n"
        + pages.markdown(
            ["quantity", "true value", *(f"{size} prompts" for size in found.coverage)],
            [[NAMES[name], f"{found.truth[name]:.3g}",
              *(percent(cell[name].share) for cell in found.coverage.values())]
             for name in QUANTITIES])
        + "\nIntervals of one KID are too wide, the more so the nearer it is to 0: a resample "
        "takes the noise in each prompt's mean over the others for a difference between prompts "
        "(`benchmarks.kid_trials.spread_foretold`). A paired difference of two models suffers "
        "less from it. Bootstrap standard deviation over the true one (1 is right), as measured, "
        "as foretold, and share of intervals that lie wholly below the truth (2.5 % is right):\n\n"
        + pages.markdown(
            ["quantity", *(f"{size} prompts" for size in found.coverage)],
            [[NAMES[name], *(f"{c[name].spread:.2f}, {c[name].foretold:.2f}, "
                             f"{100 * c[name].below:.1f} %" for c in found.coverage.values())]
             for name in QUANTITIES])
        + "\n## Time\n\nFrom features of 1000 x 1000 images to the interval of KID with 1000 "
        "resamples, on one thread of a machine that did other work too; medians and their "
        "intervals.\n\n"
        + pages.markdown(
            ["width", "images a prompt", "seconds by the clock", "of the processor"],
            [[str(d), str(s), *(shown(e, digits=".2f") for e in (t.clock, t.busy))]
             for (d, s), t in found.seconds.items()])
        + "\n## FD of one distribution with itself\n\n"
        f"FD is refused below 10 images for each dimension. At that limit, {images} true pictures "
        f"a side of width {width} and no prompt on both sides, it is {shown(found.fd)} instead of "
        f"0, over {found.fd.n_runs} trials: {100 * found.fd.value / found.fd_variance:.2g} % of "
        f"the variance of the features. Independent images of a Gaussian would give "
        f"{found.fd_foretold:.3g}.\n"
    )  # fmt: skip


def plot(found: Findings, path: Path) -> None:
    with pages.figure(path, 2) as (left, right):
        both = {"standard": found.bias.standard, "prompt-aware": found.bias.prompt_aware}
        for (name, values), colour in zip(both.items(), COLOURS, strict=False):
            left.hist(1e3 * values, bins=20, alpha=0.6, color=colour, label=name)
            left.axvline(1e3 * values.mean(), color=colour, ls="--")
        left.axvline(0, color="#70767f")
        left.set_xlabel("KID of two samples of one distribution, x 1000")
        left.set_ylabel("trials")
        left.legend()
        sizes = np.array(list(found.coverage))
        right.axhspan(90, 98, color="#70767f", alpha=0.12, lw=0)
        right.axhline(95, color="#70767f", ls=":")
        for i, name in enumerate(QUANTITIES):
            cells = [cell[name].share for cell in found.coverage.values()]
            value = np.array([100 * e.value for e in cells])
            bars = np.array([[100 * (e.value - e.low), 100 * (e.high - e.value)] for e in cells])
            # beside each other, or the bars would hide one another
            right.errorbar(sizes * 1.04 ** (i - 1.5), value, bars.T, marker="o", label=NAMES[name])
        right.set_xscale("log", base=2)
        right.set_xticks(sizes, [str(size) for size in sizes])
        right.minorticks_off()
        right.set_xlabel("prompts of an evaluation")
        right.set_ylabel("95 % intervals that hold the truth, %")
        right.set_ylim(80, 100.5)
        right.legend(loc="lower right")
