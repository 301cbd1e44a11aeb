"""A run of tuning with invented looks, in the files that the real writers make."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from tests.unit.report.demo_run import pictures
from tests.unit.test_folder import put, read

from fewstep.data import folder_report
from fewstep.evaluate.grids import Column, write_grid
from fewstep.evaluate.in_context import TeacherCheckConfig, drifts
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.strips import write_strip
from fewstep.runs import Run
from fewstep.train.retention import RetentionConfig, Row, decided

CFG = RetentionConfig(every=20, tolerance=0.1, collapse=0.5, returns=1)
LAST = 100
LOOKS = ((0.0, 0.0), (0.2, 0.02), (0.41, 0.08), (0.6, 0.75), (0.5, 0.2), (0.43, 0.06))
"""Concept and loss at steps 0, 20, ...: a collapse at 60, and 100 is kept."""
FAULT = "its pictures come no nearer to the training pictures than those without context"


def tuned_run(
    directory: Path, *, judged: bool = True, forced: bool = False, cfg: RetentionConfig = CFG
) -> Path:
    """`judged` has adherence by a world; `forced` has a teacher that failed."""
    config = f"method:\n  name: dopsd\n  student_sigmas: [1.0, 0.9, 0.75, 0.5]\nforced: {forced}\n"
    with Run.create(directory, config, {"command": "fewstep train dopsd_shapes"}) as run:
        for step in range(10, LAST + 1, 10):
            states = [0.004 * step / LAST, 0.02, 0.01, 0.006]
            run.log(
                step, phase="student", loss=sum(states) + 0.001, distil=sum(states),
                distil_by_state=states, tether=0.001, tether_by_state=[0.00025] * 4, lr=2e-3,
            )  # fmt: skip
    write_looks(directory, judged, cfg)
    write_teacher(directory, forced)
    write_folder(directory)
    return directory


def write_looks(directory: Path, judged: bool, cfg: RetentionConfig) -> None:
    rows = [
        Row(step=20 * i, concept=concept, loss=loss, details={
            "features": "shapes", "own_steps": 4,
            "steps": {str(n): at(n, i, loss, judged) for n in (4, 8, 30)},
        })
        for i, (concept, loss) in enumerate(LOOKS)
    ]  # fmt: skip
    lines = [json.dumps(asdict(row)) + "\n" for row in rows]
    (directory / "retention.jsonl").write_text("".join(lines))
    (directory / "retention.json").write_text(json.dumps(decided(rows, cfg, LAST)))
    for step in (0, decided(rows, cfg, LAST)["kept"]):
        for i, what in enumerate(("concept", "at_04")):
            path = directory / "samples" / "retention" / f"step_{step:06d}_{what}.png"
            write_strip(path, pictures(1, i + step, 8))


def at(n: int, i: int, loss: float, judged: bool) -> dict[str, float]:
    found = {"sharpness": 1 + 0.01 * i, "high_frequency": 1 + 0.1 * i, "saturation": 1 - 0.02 * i,
             "shift": 0.003 * i, "loss": loss}  # fmt: skip
    before = 0.9 + 0.001 * n
    return {**found, "adherence": before - loss, "adherence_before": before} if judged else found


def write_teacher(directory: Path, forced: bool) -> None:
    shown, plain, teacher = (pictures(1, 40, 8), pictures(9, 41, 8), pictures(1, 41, 8))
    columns = [Column("shown", shown), Column("teacher", teacher), Column("without", plain)]
    write_grid(directory / "teacher.png", columns, ["a [V]"] * 8)
    gains = {"all": 0.19, "captions": 0.22, "novel": 0.16}
    drifted = drifts(teacher, plain, shown, TeacherCheckConfig())
    far = Estimate(0.2, 0.1, 0.3, 16, 1)
    found = {
        "gain": {k: Estimate(v, v - 0.08, v + 0.06, 16, 1).to_json() for k, v in gains.items()},
        "drift": {
            key: replace(own, beyond=replace(far, value=0.0, low=0.0, high=0.01)).to_json()
            for key, own in drifted.items()
        },
        "beside": {
            "teacher": Estimate(0.88, 0.69, 1.0, 16, 1).to_json(),
            "plain": Estimate(0.06, 0.0, 0.19, 16, 1).to_json(),
        },
        "faults": [FAULT] if forced else [], "forced": forced,
    }  # fmt: skip
    if forced:
        found["drift"]["blue"] = replace(drifted["blue"], beyond=far).to_json()
    (directory / "teacher.json").write_text(json.dumps(found))


def write_folder(directory: Path) -> None:
    root = directory.parent / f"{directory.name}_pictures"
    put(root / "good.png", "a [V] on a wall", width=96, height=64, seed=1)
    put(root / "bare.png", None, seed=2)
    (root / "notes.md").touch()
    wanted = directory.parent / f"{directory.name}_wanted.txt"
    wanted.write_text("three [V]s\na [V] beside a dog")
    report = {"folder": folder_report.facts(read(root, prompts=str(wanted)))}
    (directory / "data.json").write_text(json.dumps(report))
