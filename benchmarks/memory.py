"""The most memory that steps take, beside what `fewstep plan` says of them.

    python -m benchmarks.memory [--cases full-512-8 lora-512-8]

Each case is a recipe at a size and a batch. A first step of all phases makes the optimizers'
states; the next one is weighed and timed. On a GPU this is what CUDA's allocator had given out, on
a CPU the storages of all tensors. Cases with a cap run with an allocator that gives no more. The
records are fit.ladd_full_peak_gib, fit.ladd_lora_peak_gib and fit.ladd_lora_1024_peak_gib, of
Z-Image on a GPU alone.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from benchmarks import pages
from benchmarks.common import claim
from benchmarks.large import (
    LENGTHS,
    Case,
    Ready,
    add_options,
    capped,
    chosen,
    made_by,
    peak,
    ready,
    seconds,
    told,
)
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.cli.planning import outline_of
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.rehearsal import rehearse, states

GIB = 2**30


def at(pixels: int, batch: int, **more: Any) -> dict[str, Any]:
    size = {f"data.samples.{side}": pixels for side in ("height", "width")}
    loss = {"method.loss": "softplus"} if batch == 1 else {}
    return {**size, "data.batch_size": batch, **loss, **more}


CASES: dict[str, dict[str, Case]] = {
    "shapes": {
        case.name: case
        for case in (
            Case(name="ladd", recipe="ladd_shapes_demo", changes={"engine": "plain"}),
            Case(name="ladd-again", recipe="ladd_shapes_demo",
                 changes={"engine": "plain", "recompute": True}),
            Case(name="ladd-exact", recipe="ladd_shapes_demo", changes={
                "engine": "plain", "recompute": True, "method.ema_decay": 0.0,
                "optim.student.weights": "exact", "optim.student.moments": "8bit",
            }),
            Case(name="ladd-inside", recipe="ladd_shapes_demo", changes={
                "engine": "plain", "optim.student.in_backward": True, "data.batch_size": 1,
                "method.loss": "softplus",
            }),
            Case(name="ladd-offload", recipe="ladd_shapes_demo", changes={
                "engine": "plain", "optim.student.offload": True,
            }),
            Case(name="ladd-int8", recipe="ladd_shapes_demo",
                 changes={"engine": "plain", "frozen": "int8"}),
            Case(name="sda", recipe="sda_shapes", changes={"engine": "plain", "model": "shapes"}),
            Case(name="dopsd", recipe="dopsd_shapes",
                 changes={"engine": "plain", "model": "shapes"}),
        )
    },
    "zimage": {
        case.name: case
        for case in (
            *(Case(name=f"full-512-{b}", recipe="ladd_zimage_80gb", changes=at(512, b))
              for b in (1, 2, 4, 8)),
            Case(name="full-48gb", recipe="ladd_zimage_48gb", cap=48),
            Case(name="full-32gb", recipe="ladd_zimage_32gb", cap=32),
            Case(name="full-1024-1", recipe="ladd_zimage_80gb", changes=at(1024, 1)),
            Case(name="full-1024-2", recipe="ladd_zimage_80gb", changes=at(1024, 2)),
            Case(name="lora-512-8", recipe="ladd_zimage_lora_24gb", changes=at(512, 8)),
            Case(name="lora-1024-1", recipe="ladd_zimage_lora_24gb", changes=at(1024, 1)),
            Case(name="lora-int8-512-8", recipe="ladd_zimage_lora_16gb", changes=at(512, 8)),
            Case(name="sda-24", recipe="sda_zimage_turbo_24gb", cap=24,
                 changes={"data.batch_size": 1}),
            *(Case(name=f"dopsd-24-{k}", recipe="dopsd_zimage_turbo_24gb", cap=24,
                   changes={"data.batch_size": 1, "data.prior_size": 1, "method.visits": k})
              for k in (4, 8)),
        )
    },
}  # fmt: skip
RECORDS = {
    "full-512-8": "ladd_full_peak_gib", "lora-512-8": "ladd_lora_peak_gib",
    "lora-1024-1": "ladd_lora_1024_peak_gib",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="The most memory of steps.")
    add_options(parser)
    parser.add_argument("--cases", nargs="+", help="some of them")
    args = parser.parse_args(words)
    size, device = chosen(args)
    known = CASES[size]
    names = args.cases or list(known)
    if odd := [name for name in names if name not in known]:
        parser.error(f"--cases takes {', '.join(known)}, got {odd[0]}")
    command = f"python -m benchmarks.memory {shlex.join(words)}".strip()
    rows = []
    for name in names:
        rows.append(row_of(known[name], size, device))
        shown = {k: f"{v:.3f}" if isinstance(v, float) else v for k, v in rows[-1].items()}
        print(" ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    facts = made_by(command, device)
    told("memory", size, {**facts, "rows": rows}, args.results)
    print(pages.markdown(
        ["case", "GiB", "planned", "seconds a step"],
        [[r["case"], f"{r['gib']:.3f}", f"{r['planned_gib']:.3f}", f"{r['seconds']:.3f}"]
         for r in rows if r["failed"] is None],
    ))  # fmt: skip
    if size == "zimage" and device.type == "cuda":
        found = [record(r, facts) for r in rows if r["case"] in RECORDS]
        print(f"wrote {claims.write(found, 'fit', args.results)}")
    return 0


def row_of(case: Case, size: str, device: torch.device) -> dict[str, Any]:
    """A case that does not fit is a row too."""
    row: dict[str, Any] = {"case": case.name, "recipe": case.recipe, "cap_gib": case.cap,
                           "planned_gib": planned(case, size) / GIB}  # fmt: skip
    with capped(case.cap, device):
        try:
            return row | weighed(ready(case, size, device))
        except torch.OutOfMemoryError as error:
            return row | {"gib": math.inf, "seconds": math.nan, "failed": str(error)[:200]}


def weighed(it: Ready) -> dict[str, Any]:
    fullest = it.fullest()
    it.step(fullest)
    there = [t for m in it.method.modules.values() for t in (*m.parameters(), *m.buffers())]
    there += [p for f in it.families for p in f.backbone.parameters()]
    there += states(o for o in it.optims.values() if not o.cfg.offload)
    most = peak(lambda: it.step(fullest), it.device, there)
    took = seconds(lambda: it.step(fullest), it.device)
    return {"gib": most / GIB, "seconds": took, "failed": None}


def planned(case: Case, size: str) -> int:
    """Bytes of tensors in a step, by `fewstep plan`."""
    experiment = case.experiment()
    experiment = replace(experiment, data=replace(experiment.data, micro_batch=None))
    model, other = experiment.model, experiment.teacher
    if size == "shapes":
        model, other = "shapes", None if other is None else "shapes"
    family = outline_of(model, "model")
    teacher = family if other is None else outline_of(other, "teacher")
    found = rehearse(experiment, family, teacher, LENGTHS[size])
    return max(found.peaks.values())


def record(row: dict[str, Any], facts: dict[str, Any]) -> claims.Claim:
    name = RECORDS[row["case"]]
    text, goal, _ = PLANNED["fit"][name]
    note = f"{row['seconds']:.2f} s a step; by plan {row['planned_gib']:.1f} GiB"
    return claim(
        name, text, Estimate(row["gib"], math.nan, math.nan, 0, 0), area="fit", made=facts, n=1,
        goal=goal, note=row["failed"] or f"one step; {note}",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
