"""Reads `evaluation.json`, schema 3, as `fewstep.evaluate.results` documents it.

What a metric is called, where it belongs and which way it is better stand in the file beside the
numbers. Whatever is missing or of another type is a RunError.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from fewstep.report.results import (
    Comparison,
    Cost,
    Evaluation,
    Metric,
    Number,
    Picture,
    Point,
    Row,
    Sheet,
    Spec,
    TradeOff,
)
from fewstep.report.typed import Node, WrongShape, read_json
from fewstep.runs import RunError

SCHEMA = 3
GROUPS = ("fidelity", "adherence", "categories", "diversity", "quality", "collapse")
"""In the order in which their tables stand."""
ROLES = ("truth", "teacher_full", "teacher_few", "student", "other")
BETTER = ("higher is better", "lower is better", "1 is the truth", "as the truth", "")


def read_evaluation(directory: Path) -> Evaluation:
    """The evaluation of a directory, empty where it has none; RunError if it cannot be read."""
    path = directory / "evaluation.json"
    if not path.is_file():
        return Evaluation()
    root = Node(read_json(path))
    try:
        if (schema := root.at("schema").count()) != SCHEMA:
            raise WrongShape(f"its schema is {schema}")
        return evaluation(root, directory)
    except WrongShape as error:
        raise RunError(
            f"{path} is not an evaluation of schema {SCHEMA}: {error}; "
            "write it anew with `fewstep eval`"
        ) from error


def evaluation(root: Node, directory: Path) -> Evaluation:
    metrics = {key: metric(node) for key, node in root.at("metrics").items()}

    def known(node: Node) -> str:
        if node.text() not in metrics:
            raise WrongShape(f"metrics.{node.text()}, of which {node.place} speaks, is missing")
        return node.text()

    rows = [row(node) for node in root.at("rows").entries()]
    for r in rows:
        for key in r.metrics:
            known(Node(key, f"the row {r.name!r}"))
    names = {r.name for r in rows}

    def compared(node: Node, metric: str) -> tuple[str, ...]:
        found = tuple(name.text() for name in node.entries())
        wanted = 2 if any(metric in r.metrics for r in rows) else 3  # a difference, or a share
        if len(found) != wanted or not names.issuperset(found):
            raise node.wrong(f"the names of {wanted} rows")
        return found

    return Evaluation(
        suite=root.at("suite").text(),
        question=root.at("question").text(),
        world=root.at("world").text(),
        commands=[node.text() for node in root.at("commands").entries()],
        metrics=metrics,
        rows=rows,
        comparisons=[
            Comparison(
                name=node.at("name").text(), metric=known(node.at("metric")),
                rows=compared(node.at("rows"), node.at("metric").text()),
                goal=goal.number() if (goal := node.maybe("goal")) else None,
                number=number(node.at("estimate")),
            )
            for node in root.at("comparisons").entries()
        ],
        grids=[picture(node, directory) for node in root.at("grids").entries()],
        sheets=[
            Sheet(
                picture=picture(node, directory), row=node.at("row").text(),
                prompt=node.at("prompt").text(),
            )
            for node in root.at("sheets").entries()
        ],
        curves=[trade_off(node) for node in root.at("curves").entries()],
        notes=[node.text() for node in root.at("notes").entries()],
    )  # fmt: skip


def number(node: Node) -> Number:
    """An estimate; bounds come in pairs."""
    low, high = node.at("low").number_or_nan(), node.at("high").number_or_nan()
    value = node.at("value").number_or_nan()
    if math.isnan(low) != math.isnan(high):
        raise node.wrong("an estimate with both bounds or none")
    counts = (node.at(key).count() for key in ("n_prompts", "n_seeds", "n_runs"))
    return Number(value, low, high, *counts)


def metric(node: Node) -> Metric:
    target = node.at("target").number_or_nan()
    return Metric(
        label=node.at("label").text(),
        group=node.at("group").one_of(GROUPS),
        better=node.at("better").one_of(BETTER),
        explained=node.at("explained").text(),
        percent=node.at("percent").flag(),
        target=None if math.isnan(target) else target,
        main=node.at("main").flag(),
    )


def row(node: Node) -> Row:
    spec_of, cost_of = node.maybe("spec"), node.maybe("cost")
    return Row(
        name=node.at("name").text(),
        role=node.at("role").one_of(ROLES),
        metrics={key: number(estimate) for key, estimate in node.at("metrics").items()},
        spec=spec(spec_of) if spec_of else None,
        cost=cost(cost_of) if cost_of else None,
    )


def spec(node: Node) -> Spec:
    everything = {key: value for key, value in node.mapping().items() if key != "model"}
    return Spec(
        fingerprint=node.at("fingerprint").text(),
        n_prompts=node.at("n_prompts").count(),
        prompts_hash=node.at("prompts_hash").text(),
        seeds=tuple(seed.count() for seed in node.at("seeds").entries()),
        sigmas=tuple(sigma.number() for sigma in node.at("sigmas").entries()),
        sampler=node.at("sampler").text(),
        guidance=node.at("guidance").number(),
        model_calls=node.at("model_calls").count(),
        height=node.at("height").count(),
        width=node.at("width").count(),
        identity=json.dumps(everything, sort_keys=True),
    )


def cost(node: Node) -> Cost:
    memory = node.maybe("peak_memory_mb")
    return Cost(
        seconds=node.at("seconds").number(),
        images=node.at("images").count(),
        model_calls=node.at("model_calls").count(),
        peak_memory_mb=memory.number() if memory else None,
    )


def picture(node: Node, directory: Path) -> Picture:
    file = node.at("file").text()
    path = (directory / file).resolve()
    if not path.is_relative_to(directory.resolve()) or not path.is_file():
        raise WrongShape(f"{node.place}.file {file!r} is not a file inside {directory}")
    return Picture(path=path, caption=node.at("caption").text())


def trade_off(node: Node) -> TradeOff:
    return TradeOff(
        title=node.at("title").text(),
        caption=node.at("caption").text(),
        x=node.at("x").text(),
        y=node.at("y").text(),
        lines={
            line.at("name").text(): [
                Point(
                    label=p.at("label").text(), x=number(p.at("x")), y=number(p.at("y"))
                )
                for p in line.at("points").entries()
            ]
            for line in node.at("lines").entries()
        },
    )  # fmt: skip
