"""What each metric does when true pictures are spoiled in a known way.

    OMP_NUM_THREADS=1 python -m benchmarks.corruptions --results results

True pictures of 64 test prompts x 4 seeds are spoiled in nine ways, at three strengths each, and
held against other true pictures of the same prompts. Every cell is the paired change against the
unspoiled pictures with its 95 % interval. A metric that is meant to see a fault must move its way,
beyond the interval, at the greatest strength. Writes docs/corruptions.md, its figure, the table
results/tables/corruptions.json and the record measure.corruptions_seen. About three minutes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.common import claim, facts, few_threads, weights_of, write_json
from benchmarks.pages import shown
from matplotlib.figure import Figure
from torch.nn import functional

from fewstep import claims
from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.gallery import eight_bit, true_pictures
from fewstep.evaluate.judge import FRESH
from fewstep.evaluate.measures import Instruments, Measures, in_memory, measure
from fewstep.evaluate.metrics import compare
from fewstep.evaluate.statistics import Estimate
from fewstep.rng import seed_of
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.world import Shapes

PROMPTS, SEEDS = 64, 4
Spoil = Callable[[Pixels, float], Pixels]
"""All pictures, (prompts x seeds, 3, h, w), and how much."""


def blur(images: Pixels, sigma: float) -> Pixels:
    reach = math.ceil(3 * sigma)
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = (bell[:, None] * bell / bell.sum() ** 2).expand(3, 1, -1, -1)
    return functional.conv2d(functional.pad(images, [reach] * 4, "replicate"), kernel, groups=3)


def noise(images: Pixels, level: float) -> Pixels:
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed_of("noise")))
    return images + level * drawn


def grey(images: Pixels, share: float) -> Pixels:
    return images + share * (images.mean(1, keepdim=True) - images)


def turned(images: Pixels, share: float) -> Pixels:
    """Colours turned from red to green to blue."""
    return images + share * (images.roll(1, 1) - images)


def zoomed(images: Pixels, more: float) -> Pixels:
    side = images.shape[-1]
    inner = round(side / (1 + more))
    low = (side - inner) // 2
    cut = images[..., low : low + inner, low : low + inner]
    return functional.interpolate(cut, size=(side, side), mode="bilinear", antialias=True)


def rows(count: int, share: float) -> torch.Tensor:
    """The first share of 0 .. count - 1."""
    return torch.arange(round(share * count))


def copied(images: Pixels, share: float) -> Pixels:
    """Of a share of the prompts every seed gives the first picture."""
    found = images.unflatten(0, (PROMPTS, SEEDS)).clone()
    own = rows(PROMPTS, share)
    found[own] = found[own, :1].expand(-1, SEEDS, -1, -1, -1)
    return found.flatten(0, 1)


def shuffled(images: Pixels, share: float) -> Pixels:
    """A share of the prompts have the pictures of the next one."""
    found = images.unflatten(0, (PROMPTS, SEEDS)).clone()
    own = rows(PROMPTS, share)
    found[own] = found[own.roll(1)]
    return found.flatten(0, 1)


def one_picture(images: Pixels, share: float) -> Pixels:
    """A share of the prompts all give the pictures of the first."""
    found = images.unflatten(0, (PROMPTS, SEEDS)).clone()
    found[rows(PROMPTS, share)] = images[:SEEDS]
    return found.flatten(0, 1)


def collapsed(images: Pixels, share: float) -> Pixels:
    """A share of the prompts, every seed: one picture."""
    found = images.unflatten(0, (PROMPTS, SEEDS)).clone()
    found[rows(PROMPTS, share)] = images[0]
    return found.flatten(0, 1)


CORRUPTIONS: Mapping[str, tuple[Spoil, tuple[float, ...]]] = {
    "blur (px)": (blur, (0.5, 1.0, 2.0)),
    "noise": (noise, (0.05, 0.1, 0.2)),
    "grey": (grey, (0.1, 0.25, 0.5)),
    "colours turned": (turned, (0.05, 0.15, 0.5)),
    "zoom": (zoomed, (0.05, 0.1, 0.2)),
    "copied seeds": (copied, (0.25, 0.5, 1.0)),
    "shuffled prompts": (shuffled, (0.25, 0.5, 1.0)),
    "pictures of one prompt": (one_picture, (0.25, 0.5, 1.0)),
    "one picture": (collapsed, (0.25, 0.5, 1.0)),
}
UP, DOWN = 1, -1
MUST: Mapping[str, Mapping[str, int]] = {
    "blur (px)": {"kid": UP, "sharpness": DOWN, "high_frequency": DOWN, "adherence": DOWN},
    "noise": {"kid": UP, "high_frequency": UP, "adherence": DOWN, "coverage": DOWN},
    "grey": {"kid": UP, "saturation": DOWN},
    "colours turned": {"kid": UP, "adherence": DOWN, "adherence_colour": DOWN},
    "zoom": {"kid": UP, "scale": UP},
    "copied seeds": {"layout_diversity": DOWN, "distance": DOWN, "vendi": DOWN, "pixel_std": DOWN,
                     "prompt_share": UP},
    "shuffled prompts": {"adherence": DOWN},
    "pictures of one prompt": {"adherence": DOWN, "kid": UP, "cross_prompt": DOWN,
                               "prompt_share": DOWN, "coverage": DOWN, "recall": DOWN},
    "one picture": {"kid": UP, "adherence": DOWN, "distance": DOWN, "vendi": DOWN,
                    "cross_prompt": DOWN, "coverage": DOWN, "recall": DOWN},
}  # fmt: skip
"""What must move, and which way, at the greatest strength."""
SHOWN = (
    "kid", "coverage", "recall", "adherence", "layout_diversity", "distance", "vendi", "pixel_std",
    "prompt_share", "cross_prompt", "sharpness", "high_frequency", "saturation", "scale",
)  # fmt: skip
Table = dict[str, dict[float, dict[str, Estimate]]]


def compute(world: Shapes) -> Table:
    """The paired change of every metric by corruption and strength."""
    prompts, seeds = world.prompts("test", PROMPTS), tuple(range(SEEDS))
    clean = true_pictures(world, prompts, [seed + FRESH for seed in seeds]).read(0, PROMPTS)

    def seen(images: Pixels) -> Measures:
        pictures = in_memory(eight_bit(images.clamp(0, 1)), prompts, seeds)
        return measure(pictures, world, Instruments(features={"shapes": world.features}))

    truth = seen(true_pictures(world, prompts, seeds).read(0, PROMPTS))
    unspoiled, weights = seen(clean), weights_of(PROMPTS)
    found: Table = {}
    for name, (spoil, strengths) in CORRUPTIONS.items():
        found[name] = {
            s: compare(seen(spoil(clean, s)), unspoiled, truth, weights) for s in strengths
        }
        print(f"{name}: " + ", ".join(f"{key} {shown(found[name][strengths[-1]][key])}"
                                      for key in MUST[name]), flush=True)  # fmt: skip
    return found


def sees(e: Estimate, way: int) -> bool:
    return e.low > 0 if way == UP else e.high < 0


def unseen(table: Table) -> list[str]:
    """What must move and did not."""
    return [
        f"{key} under {name}"
        for name, wanted in MUST.items()
        for key, way in wanted.items()
        if not sees(list(table[name].values())[-1][key], way)
    ]


def markdown(table: Table) -> str:
    lines = [
        "# What the metrics see", "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.corruptions --results results`: true "
        f"pictures of {PROMPTS} test prompts x {SEEDS} seeds of Shapes are spoiled in a known way "
        "and held against other true pictures of the same prompts. A cell is the paired change "
        "against the unspoiled pictures; **bold** where its 95 % interval excludes 0, and an arrow "
        "where the metric is meant to see the fault and must move that way at the greatest "
        "strength. Metrics move for faults that they are not meant for, too: noise raises pixel "
        "spread and feature distance, which is why diversity is never read without quality.", "",
        "![Changes in units of their interval](figures/corruptions.png)", "",
        "| fault | strength | " + " | ".join(metric(key).label for key in SHOWN) + " |",
        "|---|---|" + "---|" * len(SHOWN),
    ]  # fmt: skip
    for name, strengths in table.items():
        for s, found in strengths.items():
            cells = [cell(found[key], MUST[name].get(key)) for key in SHOWN]
            lines.append(f"| {name} | {s:g} | " + " | ".join(cells) + " |")
    lost = unseen(table)
    lines += ["", "Not seen at the greatest strength: " + ("; ".join(lost) or "nothing") + "."]
    return "\n".join(lines) + "\n"


def cell(e: Estimate, way: int | None) -> str:
    digits = 3 if abs(e.value) < 0.0995 else 2
    text = f"{e.value:+.{digits}f}".replace("-", "\u2212")
    if e.low > 0 or e.high < 0:
        text = f"**{text}**"
    return text + {UP: " \u2191", DOWN: " \u2193", None: ""}[way]


def plot(table: Table, path: Path) -> None:
    """Changes in half-widths of their intervals, cut at 10."""
    labels = [f"{name} {s:g}" for name, strengths in table.items() for s in strengths]
    values = np.array([
        [e.value / max((e.high - e.low) / 2, 1e-9) if e.value else 0.0
         for e in (found[key] for key in SHOWN)]
        for strengths in table.values() for found in strengths.values()
    ])  # fmt: skip
    figure = Figure(figsize=(9, 8.2), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(values.clip(-10, 10), cmap="RdBu_r", vmin=-10, vmax=10, aspect="auto")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_xticks(range(len(SHOWN)), [metric(key).label for key in SHOWN], rotation=40,
                    ha="right", fontsize=8)  # fmt: skip
    every = [(name, s) for name, strengths in table.items() for s in strengths]
    for row, (name, _) in enumerate(every):
        for key, way in MUST[name].items():
            if key in SHOWN:
                mark = "\u2191" if way == UP else "\u2193"
                column = SHOWN.index(key)
                ink = "white" if abs(values[row, column]) > 6 else "black"
                axes.text(column, row, mark, ha="center", va="center", fontsize=8, color=ink)
    figure.colorbar(drawn, shrink=0.6, label="change, in half-widths of its 95 % interval")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the metrics see.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    few_threads(1)
    table = compute(Shapes())
    command = "OMP_NUM_THREADS=1 python -m benchmarks.corruptions --results results"
    record: dict[str, Any] = {
        name: {f"{s:g}": {key: found[key].to_json() for key in SHOWN} for s, found in each.items()}
        for name, each in table.items()
    }
    write_json(args.results / "tables" / "corruptions.json", record)
    plot(table, args.docs / "figures" / "corruptions.png")
    (args.docs / "corruptions.md").write_text(markdown(table), encoding="utf-8")
    cases = sum(map(len, MUST.values()))
    lost = unseen(table)
    share = 1 - len(lost) / cases
    note = f"n = pairs of a metric and a fault that it must see; {PROMPTS} prompts x {SEEDS} seeds"
    found = claim(
        "corruptions_seen", "share of known faults that the metric meant for them sees",
        Estimate(share, math.nan, math.nan, PROMPTS, SEEDS), made=facts(command, 1), n=cases,
        goal=">= 1", area="measure", note=note + (f"; not seen: {', '.join(lost)}" if lost else ""),
    )  # fmt: skip
    print(f"{share:.3f} of {cases} seen; wrote {claims.write([found], 'measure', args.results)}")


if __name__ == "__main__":
    main()
