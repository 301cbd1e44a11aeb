"""How the parser degrades: adherence on true, blurred, noised and merged pictures.

    python benchmarks/parser_curve.py [--n 4000] [--damaged 400]

Writes results/parser.json (claims) and docs/figures/parser_degradation.png. About two minutes on
one thread.
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch

from fewstep import claims
from fewstep.recipes.shapes_features import blurred
from fewstep.rng import seed_of
from fewstep.worlds.shapes.judge import judge, judge_concept
from fewstep.worlds.shapes.prompts import CONCEPT, Role, Spec, meaning, scene_for, understand
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import CROWDED, Scene, draw_concept
from fewstep.worlds.shapes.world import Shapes

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
BLUR = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
NOISE = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
MERGE = (0.2, 0.4, 0.6, 0.8, 1.0)
SHOWN = ("all", "count", "colour", "shape")
BATCH = 64


def verdicts(images: np.ndarray, prompts: Sequence[str]) -> dict[str, np.ndarray]:
    starts = range(0, len(prompts), BATCH)
    rows = [judge(images[i : i + BATCH], prompts[i : i + BATCH]) for i in starts]
    return {part: np.concatenate([row[part] for row in rows]) for part in rows[0]}


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    whole = torch.from_numpy(images)
    return blurred(whole, torch.full((len(whole),), sigma), reach=math.ceil(3.5 * sigma)).numpy()


def pushed(scene: Scene, share: float) -> Scene:
    """All things moved towards their common centre by a share of the way."""
    x = sum(t.x for t in scene.things) / len(scene.things)
    y = sum(t.y for t in scene.things) / len(scene.things)
    moved = [replace(t, x=t.x + share * (x - t.x), y=t.y + share * (y - t.y)) for t in scene.things]
    return replace(scene, things=tuple(moved))


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z = 1.96
    middle, spread = right + z * z / 2, z * math.sqrt(right * (n - right) / n + z * z / 4)
    return (middle - spread) / (n + z * z), (middle + spread) / (n + z * z)


def claim(name: str, text: str, right: np.ndarray, goal: str = "", note: str = "") -> claims.Claim:
    value, n = float(right.mean()), len(right)
    low, high = wilson(int(right.sum()), n)
    return claims.Claim(
        id=f"parser.{name}",
        claim=text,
        value=value,
        low=min(low, value),
        high=max(high, value),
        n=n,
        unit="",
        goal=goal,
        met=claims.verdict(value, goal),
        command="python benchmarks/parser_curve.py",
        hardware=f"{platform.machine()} CPU, 1 thread",
        versions={"python": platform.python_version(), "numpy": np.__version__},
        date=datetime.date.today().isoformat(),
        note=note,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--n", type=int, default=4000, help="true pictures")
    options.add_argument("--damaged", type=int, default=400, help="pictures per kind of damage")
    args = options.parse_args()
    torch.set_num_threads(1)
    cfg = CROWDED
    prompts = Shapes(cfg).prompts("test", args.n)
    specs = [understand(p) for p in prompts]
    scenes = [
        scene_for(cfg, spec, np.random.default_rng(seed_of("truth", prompt, i)))
        for i, (spec, prompt) in enumerate(zip(specs, prompts, strict=True))
    ]
    images = np.concatenate([render(scenes[i : i + BATCH]) for i in range(0, args.n, BATCH)])
    start = time.process_time()
    true = verdicts(images, prompts)["all"]
    milliseconds = 1e3 * (time.process_time() - start) / args.n

    few = min(args.damaged, args.n)
    other = prompts[1 : few + 1] if few < args.n else prompts[1:] + prompts[:1]
    differ = np.array(
        [meaning(understand(o)) != meaning(s) for o, s in zip(other, specs[:few], strict=True)]
    )
    wrong = verdicts(images[:few], other)["all"][differ]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(images[:few].shape, np.float32)
    several = [i for i, scene in enumerate(scenes) if len(scene.things) > 1][:few]
    curves = {
        "Gaussian blur, sigma in pixels": {
            s: verdicts(blur(images[:few], s) if s else images[:few], prompts[:few])
            for s in (0.0, *BLUR)
        },
        "noise, standard deviation": {
            s: verdicts(images[:few] + s * noise, prompts[:few]) for s in (0.0, *NOISE)
        },
        "objects pushed together, share of the way": {
            s: verdicts(
                render([pushed(scenes[i], s) for i in several]), [prompts[i] for i in several]
            )
            for s in (0.0, *MERGE)
        },
    }
    plot(curves, ROOT / "docs" / "figures" / "parser_degradation.png")

    looks = [draw_concept(rng) for _ in range(1000)]
    shown = render([scene_for(cfg, Spec((Role(CONCEPT),)), rng, look) for look in looks])
    own = judge_concept(shown, looks)["right"]
    strange = judge_concept(shown, looks[1:] + looks[:1])["right"]
    soft, rough, merged = curves.values()
    what = "share of pictures judged fully right"
    claims.write(
        [
            claim("true_renders", f"{what}: true renders of test prompts", true, ">= 0.995",
                  f"{milliseconds:.1f} ms of processor time a picture"),
            claim("other_prompts", f"{what}: true renders of other prompts", wrong, "<= 0.02",
                  "prompts of another meaning; vague ones may still hold of the picture"),
            *(claim(f"blur_{k}px", f"{what}: blur of {s:g} px", soft[s]["all"])
              for k, s in (("1", 1.0), ("2", 2.0), ("4", 4.0))),
            *(claim(f"noise_{k}", f"{what}: noise of {s:g}", rough[s]["all"])
              for k, s in (("005", 0.05), ("02", 0.2), ("04", 0.4))),
            claim("merged_60", f"{what}: objects pushed 60 % of the way together",
                  merged[0.6]["all"], note="pictures of two and three objects"),
            claim("concept_own", "share of concept pictures judged right", own, ">= 0.995"),
            claim("concept_other", "share judged right for another random concept", strange,
                  "<= 0.05"),
        ],
        "parser",
        ROOT / "results",
    )  # fmt: skip
    print(f"true renders {true.mean():.4f} (n = {args.n}), {milliseconds:.2f} ms a picture")
    for name, curve in curves.items():
        print(name, {s: round(float(v["all"].mean()), 3) for s, v in curve.items()})
    print(
        f"other prompts {wrong.mean():.4f}, concepts {own.mean():.3f}, other {strange.mean():.3f}"
    )


def plot(curves: dict[str, dict[float, dict[str, np.ndarray]]], path: Path) -> None:
    figure, axes = plt.subplots(1, len(curves), figsize=(11, 3.2), sharey=True)
    for ax, (name, curve) in zip(axes, curves.items(), strict=True):
        for part in SHOWN:
            values = [curve[s][part].mean() for s in curve]
            ax.plot(list(curve), values, marker="o", markersize=3, label=part)
        ax.set_xlabel(name)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("share judged right")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
