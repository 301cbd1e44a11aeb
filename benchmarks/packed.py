"""What a model still draws with its blocks in eight or four bits of a weight.

    OMP_NUM_THREADS=1 python -m benchmarks.packed [--student runs/ladd_shapes_demo/model]

The same test prompts and seeds are drawn by the model as it is and with its blocks packed in each
way (`nets.packed`); differences are paired. The Shapes teacher at full steps with guidance, and a
student at 4 steps where one is named. Writes results/tables/packed.json and docs/packed.md; what
was drawn is kept in runs/studies/measured. About ten minutes.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from benchmarks import common, pages
from benchmarks.pages import percent, shown

from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.metrics import compare
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.models import load_family
from fewstep.nets.packed import FrozenName, PackedLinear
from fewstep.worlds.shapes.world import Shapes

KINDS: tuple[FrozenName, ...] = get_args(FrozenName)
BITS = {"dtype": 32.0, "int8": 8.0, "float8": 8.0, "nf4": 4.5}


@dataclass(frozen=True)
class Row:
    model: str
    kind: FrozenName
    weights: float
    """How far packed weights are from what they were: relative, in norm."""
    found: Mapping[str, Estimate]
    """Minus those of the model as it is."""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Models with packed blocks.")
    common.add_common(parser)
    parser.set_defaults(prompts=128, seeds=3)
    parser.add_argument("--steps", type=int, default=20, help="of the model")
    parser.add_argument("--guidance", type=float, default=2.0, help="of the model")
    parser.add_argument("--student", help="a directory, drawn at 4 steps")
    args = parser.parse_args(words)
    where = common.roots(args)
    asked = {args.model: (args.steps, args.guidance)}
    if args.student is not None:
        asked[args.student] = (4, 1.0)
    rows = [row for model, how in asked.items() for row in measured(model, *how, args)]
    command = f"python -m benchmarks.packed {shlex.join(words)}".strip()
    common.write_json(where.results / "tables" / "packed.json", {
        **common.facts(command, args.threads),
        "rows": [
            {"model": row.model, "frozen": row.kind, "weights": row.weights,
             "minus_whole": {name: e.to_json() for name, e in row.found.items()}}
            for row in rows
        ],
    })  # fmt: skip
    pages.write_text(where.docs / "packed.md", command, page(rows))
    print(f"wrote {where.docs / 'packed.md'}")
    return 0


def measured(model: str, steps: int, w: float, args: argparse.Namespace) -> list[Row]:
    world, folder = Shapes(), common.roots(args).measured
    device = common.few_threads(args.threads)
    prompts = tuple(dict.fromkeys(world.prompts("test", args.prompts)))
    seeds = tuple(range(args.seeds))
    truth = common.true_pictures(folder, world, prompts, [s + 1000 for s in seeds])
    weights, whole, rows = common.weights_of(len(prompts)), None, list[Row]()
    for kind in KINDS:
        family = load_family(model, device, frozen=kind)
        height = width = 64
        spec = GenerationSpec(
            model=model, fingerprint=family.fingerprint(), prompts=prompts, seeds=seeds,
            sigmas=family.sigmas(steps), sampler=family.sampler, guidance=w, height=height,
            width=width,
        )  # fmt: skip
        drawn = common.drawn(folder, family, spec, world, batch=args.batch).measures
        whole = drawn if whole is None else whole
        found = compare(drawn, whole, truth, weights)
        told = "the teacher" if model == args.model else "a student"
        name = f"{told}, {steps} steps" + (f", w = {w:g}" if w != 1 else "")
        rows.append(Row(name, kind, distance(model, family.backbone, device), found))
        print(f"{name}, {kind}: adherence {percent(found['adherence'])}, KID {shown(found['kid'])}")
    return rows


def distance(model: str, packed: torch.nn.Module, device: torch.device) -> float:
    whole = load_family(model, device).backbone
    far = size = 0.0
    for name, layer in packed.named_modules():
        if isinstance(layer, PackedLinear):
            weight = whole.get_submodule(name).get_parameter("weight")
            far += float((layer.weight - weight).square().sum())
            size += float(weight.square().sum())
    return (far / size) ** 0.5 if size else 0.0


def page(rows: Sequence[Row]) -> str:
    first = next(iter(rows)).found["adherence"]
    shown_rows = [
        [row.model, f"`{row.kind}`", f"{BITS[row.kind]:g}", f"{row.weights:.2%}",
         percent(row.found["adherence"]), shown(row.found["kid"]),
         shown(row.found["layout_diversity"]), shown(row.found["sharpness"])]
        for row in rows if row.kind != "dtype"
    ]  # fmt: skip
    table = pages.markdown(
        ["model", "frozen", "bits of a weight", "weights moved by", "adherence", "KID",
         "layout diversity", "sharpness"], shown_rows,
    )  # fmt: skip
    return f"""# Models with packed blocks

`--frozen int8 | float8 | nf4` keeps attention and feed-forward of frozen models in fewer bits ([plan](plan.md)). Each row is a packed model minus the same model as it is, on the same {first.n_prompts} test prompts with {first.n_seeds} seeds each, with 95 % intervals over prompts.

{table}

The Shapes model is small (its rows have 128 to 341 weights, those of Z-Image 3840 to 10240), so this says what to look for, not what six billion weights lose. What is trained over a packed base is exported over the whole one.
"""


if __name__ == "__main__":
    raise SystemExit(main())
