"""In context: shown a picture of a concept that has no word, does a model draw it somewhere else?

    OMP_NUM_THREADS=1 python -m benchmarks.in_context --steps 20 --guidance W
    OMP_NUM_THREADS=1 python -m benchmarks.in_context --name teacher_4 --steps 4 --guidance 1
    OMP_NUM_THREADS=1 python -m benchmarks.in_context --name student --model RUN/model \\
        --steps 4 --guidance 1

Each concept (any hue, any outline) is drawn anew from a stream that no training uses, and asked for
in the forms of the training prompts: "a [V] on a tan background", "two [V]s", "a small [V]", "a red
circle and a [V]". A picture succeeds when everything asked is right, the concept's own hue and
outline among it, and the concept is not where its reference showed it. The same prompts are drawn
with another concept's picture, and with none: what chance gives. True pictures are judged too.

Writes its row into results/tables/in_context.json, makes docs/in_context.md anew from all rows,
draws docs/figures/in_context.png (in_context_NAME.png for names other than "teacher"), and for
"teacher" writes the record spine.in_context_success. 128 concepts x 4 seeds x 3 conditions at 40
calls: about 7 minutes on one CPU thread; each condition is kept in runs/studies/measured.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from benchmarks import common, pages
from benchmarks.common import weights_of
from benchmarks.concepts import (
    CONDITIONS,
    FORMS,
    GRID_ROWS,
    NOTE,
    Concept,
    by_form,
    condition,
    summary,
    unseen,
)
from benchmarks.pages import percent, shown

from fewstep import claims
from fewstep.errors import UserError
from fewstep.evaluate.grids import Column, write_grid
from fewstep.evaluate.statistics import Estimate, estimate, mean
from fewstep.experiment.models import load_family
from fewstep.worlds.shapes import judge as judges
from fewstep.worlds.shapes.world import Shapes

MAIN = "teacher"


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Concepts that are shown, not named.")
    common.add_common(parser)
    parser.add_argument("--name", default=MAIN, help="of this row: letters, digits and _")
    parser.add_argument("--concepts", type=int, default=128)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True, help="w; 1 is none")
    args = parser.parse_args(words)
    if not re.fullmatch(r"[a-z0-9_]+", args.name) or args.concepts < 2:
        parser.error("--name takes small letters, digits and _, and --concepts at least 2")
    where = common.roots(args)
    world = Shapes()
    family = load_family(args.model, common.few_threads(args.threads), engine=args.engine)
    if family.pictures is None:
        raise UserError(f"{args.model} has no picture encoder, so nothing can be shown to it")
    concepts = unseen(world, args.concepts)
    fingerprint = family.fingerprint()
    found = {
        name: condition(name, family, concepts, world, args, fingerprint) for name in CONDITIONS
    }
    command = f"python -m benchmarks.in_context {shlex.join(words)}".strip()
    made = common.facts(command, args.threads)
    results = {name: summary(v, args.concepts) for name, v in found.items()}
    each = found["own"]["success"].reshape(args.concepts, -1).mean(1)
    row = {
        **made, "model": fingerprint, "steps": args.steps, "guidance": args.guidance,
        "concepts": args.concepts, "seeds": args.seeds,
        "conditions": {k: {m: e.to_json() for m, e in v.items()} for k, v in results.items()},
        "forms": {k: e.to_json() for k, e in by_form(found["own"], concepts).items()},
        "success_by_concept": each.tolist(),
    }  # fmt: skip
    path = where.results / "tables" / "in_context.json"
    rows = json.loads(path.read_bytes())["rows"] if path.exists() else {}
    rows[args.name] = row
    common.write_json(path, {"schema": 1, "rows": dict(sorted(rows.items()))})
    picture = "in_context" if args.name == MAIN else f"in_context_{args.name}"
    grid(where.docs / "figures" / f"{picture}.png", concepts, found["own"]["pictures"])
    pages.write_text(where.docs / "in_context.md", "python -m benchmarks.in_context", page(rows))
    success = results["own"]["success"]
    if args.name == MAIN:
        chance = {k: round(results[k]["success"].value, 3) for k in ("other", "none", "truth")}
        claims.write(
            [common.claim(
                "in_context_success",
                f"share of pictures that show an unseen concept right and in a new layout, "
                f"teacher, {args.steps} steps, w = {args.guidance:g}",
                success, made=made, n=args.concepts,
                note=f"n = concepts, {args.seeds} pictures each; {NOTE}; the same with another "
                f"concept shown {chance['other']}, with nothing {chance['none']}, of true pictures "
                f"{chance['truth']}",
            )],
            "spine", where.results,
        )  # fmt: skip
    print(f"wrote {where.docs / 'in_context.md'}; {args.name}: success {percent(success)}")
    return 0


def grid(path, concepts: Sequence[Concept], pictures: np.ndarray) -> None:
    """The reference, then one column for each seed; a row for each of the first concepts."""
    rows = concepts[:GRID_ROWS]
    drawn = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    seeds = len(drawn) // len(rows)
    columns = [Column("shown", torch.cat([c.reference for c in rows]))]
    columns += [Column(f"seed {s}", drawn[s::seeds]) for s in range(seeds)]
    write_grid(path, columns, [c.prompt for c in rows])


def difference(a: Mapping, b: Mapping) -> Estimate:
    """Success of a minus b, paired by concept."""
    gap = np.array(a["success_by_concept"]) - np.array(b["success_by_concept"])
    n = len(gap)
    return estimate(mean(gap, np.arange(n), weights_of(n)), n, a["seeds"])


def page(rows: Mapping[str, Mapping]) -> str:
    """The page of all rows; those on the same concepts are also compared with the teacher's."""

    def at(row: Mapping, condition: str, metric: str) -> Estimate:
        return Estimate.from_json(row["conditions"][condition][metric])

    order = sorted(rows, key=lambda name: (name != MAIN, name))
    lines, forms, sizes = [], [], []
    for name in order:
        row = rows[name]
        same = MAIN in rows and name != MAIN and row["concepts"] == rows[MAIN]["concepts"]
        minus = (
            difference(row, rows[MAIN]) if same else Estimate(math.nan, math.nan, math.nan, 0, 0)
        )
        lines.append(
            [name, str(row["steps"]), f"{row['guidance']:g}"]
            + [percent(at(row, c, "success")) for c in CONDITIONS] + [percent(minus)]
        )  # fmt: skip
        forms.append([name] + [
            percent(Estimate.from_json(row["forms"][f])) if f in row["forms"] else "-"
            for f in FORMS
        ])  # fmt: skip
        sizes.append(
            [name, *(percent(at(row, "own", m)) for m in ("prompt", "concept", "moved")),
             shown(at(row, "own", "hue"), digits=".1f", unit="°"), shown(at(row, "own", "outline"))]
        )  # fmt: skip
    size = rows[order[0]]
    return (
        "# Concepts that are shown, not named\n\n"
        f"{size['concepts']} concepts that no training has seen, {size['seeds']} pictures each. "
        f"What counts: {NOTE} (hue within {judges.CONCEPT_HUE:g} degrees, outline IoU at least "
        f"{judges.CONCEPT_IOU:g}, centre at least {judges.COPIED:g} of the side from where the "
        "reference has it). Brackets: 95 %, bootstrap over concepts.\n\n"
        "![Reference and drawn pictures](figures/in_context.png)\n\n"
        + pages.markdown(["", "steps", "w", *CONDITIONS.values(), "minus teacher"], lines)
        + "\nSuccess by what is asked:\n\n" + pages.markdown(["", *FORMS], forms)
        + "\nShown the concept, the parts of success:\n\n"
        + pages.markdown(["", "everything asked", "the concept", "in a new place", "hue error",
                           "outline IoU"], sizes)
        + "\nThe rows, each by its own command:\n\n"
        + "".join(f"- {name}: `{rows[name]['command']}`\n" for name in order)
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
