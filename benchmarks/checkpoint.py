"""How long training waits for a checkpoint, and how long the checkpoint takes.

    python -m benchmarks.checkpoint [--folder runs/bench]

LADD on all weights: Z-Image at full size with exact weights and 8-bit moments on a GPU, Shapes on
a CPU. After a step, a checkpoint by `train.saving` is timed until training may go on, and until it
is whole while steps go on; then at once as small ones are; then reading it back, and writing the
student as diffusers does. The disk is that of --folder. The record is fit.checkpoint_stall_seconds,
of Z-Image alone.
"""

from __future__ import annotations

import argparse
import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks import pages
from benchmarks.common import claim
from benchmarks.large import Case, Ready, add_options, chosen, made_by, ready, seconds, told
from benchmarks.memory import CASES
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.export import on_cpu
from fewstep.families.base import Backbone
from fewstep.families.zimage import transformer_of
from fewstep.train import checkpoint, saving
from fewstep.train.checkpoint import Progress
from fewstep.train.ranks import ALONE

CASE: dict[str, Case] = {
    "shapes": CASES["shapes"]["ladd"], "zimage": CASES["zimage"]["full-512-2"],
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Checkpoints: what waits for them.")
    add_options(parser)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    args = parser.parse_args(words)
    size, device = chosen(args)
    it = ready(CASE[size], size, device)
    folder = args.folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        found = measured(it, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    command = f"python -m benchmarks.checkpoint {shlex.join(words)}".strip()
    facts = made_by(command, device)
    told("checkpoint", size, {**facts, "recipe": CASE[size].recipe, **found}, args.results)
    print(pages.markdown(["", "seconds"], [
        [key.replace("_", " "), f"{value:.3g}"] for key, value in found.items() if key != "bytes"
    ]))  # fmt: skip
    if size == "zimage":
        text, goal, _ = PLANNED["fit"]["checkpoint_stall_seconds"]
        note = ", ".join(f"{key.replace('_', ' ')} {value:.3g} s" for key, value in found.items()
                         if key != "bytes")  # fmt: skip
        stall = Estimate(found["training_waits"], math.nan, math.nan, 0, 0)
        one = claim("checkpoint_stall_seconds", text, stall, area="fit", made=facts, n=1, goal=goal,
                    note=f"{found['bytes'] / 1e9:.1f} GB; {note}")  # fmt: skip
        print(f"wrote {claims.write([one], 'fit', args.results)}")
    return 0


def measured(it: Ready, folder: Path) -> dict[str, Any]:
    first = it.step_of(("heads", "student"))
    it.step(first)  # makes the moments
    step = seconds(lambda: it.step(first), it.device)
    real, saving.LARGE = saving.LARGE, 0
    try:
        saves = saving.Saving(folder, it.method.modules, it.optims, 2, ALONE)
        waits = seconds(lambda: saves.save(Progress(step=1)), it.device)
        total, steps = waits, 0
        while saves.pending is not None:
            total += seconds(lambda: (it.step(first), saves.look()), it.device)
            steps += 1
    finally:
        saving.LARGE = real
    size = saves.size()
    at_once = seconds(
        lambda: checkpoint.save(folder, Progress(step=2), it.method.modules, it.optims), it.device
    )
    found = checkpoint.newest(folder, print)
    assert found is not None
    reading = seconds(lambda: checkpoint.load(found, it.method.modules, it.optims), it.device)
    student = it.method.exported()
    assert isinstance(student, Backbone)

    def write() -> None:
        whole = transformer_of(on_cpu(student, torch.bfloat16))
        whole.save_pretrained(folder / "model")

    return {
        "bytes": size, "training_waits": waits, "until_it_is_whole": total,
        "a_step": step, "a_step_while_it_is_written": (total - waits) / max(1, steps),
        "at_once": at_once, "reading_it": reading, "writing_the_model": seconds(write, it.device),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
