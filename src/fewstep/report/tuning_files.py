"""Reads what a run of tuning leaves beside its rows; every file may be missing.

teacher.json, teacher.png    what the teacher drew in context, and what is wrong with it
retention.jsonl              looks at the student on the way
retention.json               what was decided by them
samples/retention/*.png      strips of each look; step 0 is the untouched model
data.json                    the pictures it learnt from, and what was left out
"""

from __future__ import annotations

from pathlib import Path

from fewstep.report.evaluation import number
from fewstep.report.results import Picture
from fewstep.report.tuning import Drift, Folder, Gauge, Look, Return, Shown, Teacher, Tuning
from fewstep.report.typed import Node, WrongShape, read_json, read_rows
from fewstep.runs import RunError


def read_tuning(directory: Path) -> Tuning:
    """What lies in a run directory; RunError names a file that cannot be understood."""
    path = directory / "teacher.json"
    try:
        teacher = teacher_of(Node(read_json(path)), directory) if path.is_file() else None
        path = directory / "retention.json"
        gauge = gauge_of(Node(read_json(path)), directory) if path.is_file() else None
        path = directory / "data.json"
        folders = [folder_of(role, node) for role, node in Node(read_json(path)).items()]
    except WrongShape as error:
        raise RunError(
            f"{path} cannot be understood: {error}; bring it back, or take it out of the run to "
            "leave it out of the page"
        ) from error
    return Tuning(teacher=teacher, gauge=gauge, folders=folders)


def teacher_of(root: Node, directory: Path) -> Teacher:
    grid, beside = directory / "teacher.png", root.maybe("beside")
    caption = "A training picture, what the teacher draws in context, and the same noise without."
    return Teacher(
        grid=Picture(path=grid, caption=caption) if grid.is_file() else None,
        faults=[fault.text() for fault in root.at("faults").entries()],
        forced=root.at("forced").flag(),
        gains={key: number(node) for key, node in root.at("gain").items()},
        beside={key: number(node) for key, node in beside.items()} if beside else {},
        drifts={key: drift(node) for key, node in root.at("drift").items()},
    )


def drift(node: Node) -> Drift:
    teacher, plain, shown = (node.at(key).number_or_nan() for key in ("teacher", "plain", "shown"))
    return Drift(
        teacher=teacher, plain=plain, shown=shown, beyond=number(node.at("beyond")),
        limit=node.at("limit").number(), option=node.at("option").text(),
        too_far=node.at("too_far").flag(),
    )  # fmt: skip


def gauge_of(root: Node, directory: Path) -> Gauge:
    looks, kept = (
        [look(row) for row in read_rows(directory / "retention.jsonl")],
        root.at("kept").count(),
    )
    if kept not in [own.step for own in looks]:
        raise root.at("kept").wrong("the step of a row of retention.jsonl")
    stopped = root.maybe("stopped")
    return Gauge(
        looks=looks,
        kept=kept,
        why=root.at("why").text(),
        returned=[
            Return(node.at("step").count(), node.at("to").count(), node.at("rate").number())
            for node in root.at("returned").entries()
        ],
        collapsed=[step.count() for step in root.at("collapsed").entries()],
        stopped=stopped.text() if stopped else "",
        tolerance=root.at("tolerance").number(),
        collapse=root.at("collapse").number(),
        strips=strips(directory, next(own for own in looks if own.step == kept)),
    )


def strips(directory: Path, kept: Look) -> list[tuple[str, list[Picture]]]:
    """The captions of the training pictures, and other prompts at the student's own steps."""
    what = {"Captions of the training pictures": "concept"}
    if kept.own_steps is not None:
        what[f"Prompts outside of the concept, {kept.own_steps} steps"] = f"at_{kept.own_steps:02d}"
    steps = {"untouched": 0, f"step {kept.step}, which is kept": kept.step}
    found: list[tuple[str, list[Picture]]] = []
    for title, name in what.items():
        paths = {
            caption: directory / "samples" / "retention" / f"step_{step:06d}_{name}.png"
            for caption, step in steps.items()
        }
        own = [Picture(path=p, caption=caption) for caption, p in paths.items() if p.is_file()]
        found += [(title, own)] if own else []
    return found


def look(row: Node) -> Look:
    details = row.at("details")
    steps = details.maybe("steps")
    return Look(
        step=row.at("step").count(),
        concept=row.at("concept").number_or_nan(),
        loss=row.at("loss").number_or_nan(),
        own_steps=own.count() if (own := details.maybe("own_steps")) else None,
        at={
            count(n, own): {key: value.number_or_nan() for key, value in own.items()}
            for n, own in (steps.items() if steps else ())
        },
    )


def count(steps: str, node: Node) -> int:
    """A number of steps, which JSON has as a text."""
    if not steps.isdecimal():
        raise WrongShape(f"{node.place} must have a number of steps as its name")
    return int(steps)


def folder_of(role: str, node: Node) -> Folder:
    return Folder(
        role=role,
        path=node.at("path").text(),
        pictures=[shown(row) for row in node.at("rows").entries()],
        left_out=[
            (row.at("file").text(), row.at("fault").text(), row.at("why").text())
            for row in node.at("left_out").entries()
        ],
        warnings=texts(node.at("warnings")),
        ignored=texts(node.at("ignored")),
    )


def shown(row: Node) -> Shown:
    return Shown(
        file=row.at("file").text(), pixels=size(row.at("pixels")), bucket=size(row.at("bucket")),
        cropped=row.at("cropped").number(), repeats=row.at("repeats").count(),
        captions=texts(row.at("captions")), enhanced=texts(row.at("enhanced")),
        prompts=texts(row.at("prompts")),
    )  # fmt: skip


def size(node: Node) -> tuple[int, int]:
    found = [entry.count() for entry in node.entries()]
    if len(found) != 2:
        raise node.wrong("a width and a height")
    return found[0], found[1]


def texts(node: Node) -> list[str]:
    return [entry.text() for entry in node.entries()]
