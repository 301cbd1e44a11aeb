"""What the doctor finds: planted faults, and nothing in healthy pipelines.

    OMP_NUM_THREADS=1 python -m benchmarks.doctor [--student runs/ladd_shapes_demo/model]

Plants every fault of `benchmarks.planted` alone and asks for the first complaint, which must be
that of the check which the fault is for. Then examines twenty healthy variants of the Shapes
recipes, whose every complaint is a false alarm; those of SDA and D-OPSD stand on a few-step student
and are left out, and the record says so, without one. Writes docs/doctor_faults.md and the records
watch.faults_found, watch.false_alarms and watch.doctor_seconds. About half an hour.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from benchmarks import pages
from benchmarks.common import claim, facts
from benchmarks.planted import FAULTS, Fault
from benchmarks.study_plan import changed
from benchmarks.unmeasured import PLANNED

from fewstep import claims
from fewstep.doctor.base import Answer, examine
from fewstep.doctor.checks import CHECKS
from fewstep.doctor.patient import Patient
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.builder import Built, build
from fewstep.experiment.config import Experiment
from fewstep.nets.adapters import AdapterConfig
from fewstep.recipes import RECIPES

LORA = AdapterConfig(kind="lora", rank=4, targets=("attention", "feed_forward"))
KINDS: dict[str, dict[str, Any]] = {
    "plain": {}, "adapter": {"adapter": LORA}, "recompute": {"recompute": True},
}  # fmt: skip
BASE = "ladd_shapes_demo"
STUDENT = "student"
"""Stands for the directory of a few-step student."""
HEALTHY: dict[str, tuple[str, dict[str, Any]]] = {
    "LADD": (BASE, {}),
    "LADD, fused": (BASE, {"engine": "fused"}),
    "LADD, softplus": (BASE, {"method.loss": "softplus"}),
    "LADD, R1 exact": (BASE, {"method.r1": "exact"}),
    "LADD, R1 approximate": (BASE, {"method.r1": "approx"}),
    "LADD, misaligned pairs": (BASE, {"method.misaligned_weight": 0.5}),
    "LADD, independent noise": (BASE, {"method.renoise": "independent"}),
    "LADD, without an average": (BASE, {"method.ema_decay": 0.0}),
    "LADD, student on every third step": (BASE, {"method.student_every": 3}),
    "LADD, micro-batches of 4": (BASE, {"data.micro_batch": 4}),
    "LADD, samples of one length": (BASE, {"data.alike": True}),
    "LADD, guidance 3": (BASE, {"data.samples.guidance": 3.0}),
    "LADD, recompute": (BASE, {"recompute": True}),
    "LADD, LoRA": (BASE, {"adapter": LORA}),
    "LADD, LoKr over int8": (BASE, {"adapter": AdapterConfig(factor=4), "frozen": "int8"}),
    "LADD, few bytes": (BASE, {"optim.student.moments": "8bit", "optim.student.offload": True}),
    "DMD2": ("dmd2_shapes", {}),
    "SFT": ("sft_shapes", {}),
    "SDA": ("sda_shapes", {"model": STUDENT}),
    "D-OPSD": ("dopsd_shapes", {"model": STUDENT}),
}
PLAIN = {"engine": "plain", "data.batch_size": 8, "data.samples.prompts": 32,
         "data.samples.steps": 8}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How an examination ended."""

    name: str
    complaints: list[str]
    lines: list[str]
    seconds: float


def experiment_of(recipe: str, change: dict[str, Any], cache: Path, student: str) -> Experiment:
    found = RECIPES[recipe]()
    own: dict[str, Any] = {"data.cache": str(cache), **change}
    if found.data.source == "samples":
        own = {**PLAIN, **own}
    if own.get("model") == STUDENT:
        own["model"] = student
    adapter = own.pop("adapter", found.adapter)
    return replace(changed(found, own), adapter=adapter)


def built_of(experiment: Experiment, folder: Path) -> Built:
    return build(experiment, folder / "run")


def planted(fault: Fault, cache: Path) -> list[Answer]:
    """The answers up to the first complaint."""
    experiment = experiment_of(BASE, KINDS[fault.kind], cache, "")
    found: list[Answer] = []
    with pytest.MonkeyPatch.context() as patch:
        patient = fault.patient(patch, experiment, built_of(experiment, cache))
        for answer in examine(patient, CHECKS, quick=True):
            found.append(answer)
            if answer.state in ("warn", "fail"):
                break
    return found


def examined(name: str, experiment: Experiment, cache: Path, *, quick: bool = True) -> Seen:
    """All of the answers, and how long the doctor took without what training does anyway."""
    built = built_of(experiment, cache)
    start = time.monotonic()
    found = list(examine(Patient(experiment, built), CHECKS, quick=quick))
    return Seen(
        name=name, complaints=[a.line() for a in found if a.state in ("warn", "fail")],
        lines=[a.line() for a in found], seconds=time.monotonic() - start,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Planted faults and healthy pipelines.")
    parser.add_argument("--student", help="a few-step Shapes model, for SDA and D-OPSD")
    parser.add_argument("--only", help="those whose name contains this, without any record")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        cache = Path(folder)
        part = args.only or ""
        rows = [row_of(f, planted(f, cache)) for f in FAULTS if part in f.name]
        healthy = [
            seen_of(name, experiment_of(recipe, change, cache, args.student or ""), cache)
            for name, (recipe, change) in HEALTHY.items()
            if part in name and (args.student or change.get("model") != STUDENT)
        ]
    if args.only:
        return 0
    command = f"python -m benchmarks.doctor {shlex.join(words)}".strip()
    made = facts(command, 1)
    found = sum(row["right"] for row in rows)
    alarms = sum(bool(seen.complaints) for seen in healthy)
    seconds = [seen.seconds for seen in healthy]
    middle = sorted(seconds)[len(seconds) // 2]
    values: dict[str, tuple[float, int, str]] = {
        "faults_found": (found, len(rows), "n = faults, one at a time"),
        "false_alarms": (alarms, len(healthy), "n = variants of the Shapes recipes"),
        "doctor_seconds": (
            max(seconds),
            len(healthy),
            f"n = healthy variants; median {middle:.0f} s",
        ),
    }
    records = [
        claim(
            name, PLANNED["watch"][name][0], Estimate(value, math.nan, math.nan, 0, 0),
            area="watch", made=made, n=n, goal=PLANNED["watch"][name][1], note=note,
            unit="s" if name == "doctor_seconds" else "",
        )
        for name, (value, n, note) in values.items()
    ]  # fmt: skip
    print(f"wrote {claims.write(records, 'watch', args.results)}")
    pages.write_text(args.docs / "doctor_faults.md", command, page(rows, healthy))
    print(f"{found} of {len(rows)} faults named, {alarms} false alarms in {len(healthy)}")
    return 0 if found == len(rows) and not alarms else 1


def row_of(fault: Fault, answers: list[Answer]) -> dict[str, Any]:
    last = answers[-1]
    named = last.check.name if last.state in ("warn", "fail") else None
    print(f"{fault.name}: {last.line() if named else 'nothing found'}", flush=True)
    return {"fault": fault.name, "check": fault.found_by, "right": named == fault.found_by,
            "line": last.line() if named else "nothing"}  # fmt: skip


def seen_of(name: str, experiment: Experiment, cache: Path) -> Seen:
    seen = examined(name, experiment, cache)
    print(f"{name}: {seen.seconds:.0f} s, {seen.complaints or 'no complaint'}", flush=True)
    return seen


def page(rows: list[dict[str, Any]], healthy: list[Seen]) -> str:
    faults = pages.markdown(["planted", "named by", "what the doctor says first"], [
        [row["fault"], row["check"] if row["right"] else f"**not** {row['check']}",
         row["line"].replace("|", "\\|")] for row in rows
    ])  # fmt: skip
    others = pages.markdown(["healthy", "complaints", "seconds"], [
        [seen.name, "; ".join(seen.complaints) or "none", f"{seen.seconds:.0f}"]
        for seen in healthy
    ])  # fmt: skip
    return (
        "# What the doctor finds\n\nEach fault is planted alone in a healthy LADD on Shapes; what "
        f"stands on a check that fails is not looked at.\n\n{faults}\nAnd of healthy pipelines, by "
        f"its quick part:\n\n{others}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
