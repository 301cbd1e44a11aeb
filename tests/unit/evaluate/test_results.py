"""evaluation.json: what is written is plain JSON that explains itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.results import (
    Comparison,
    Cost,
    Curve,
    Evaluation,
    Point,
    Role,
    Row,
    Sheet,
    write_evaluation,
)
from fewstep.evaluate.statistics import Estimate

PROMPTS = tuple(f"red {i}" for i in range(24))
KID = Estimate(0.01, 0.0, 0.02, 24, 4)


def written(folder: Path) -> dict:
    spec = GenerationSpec(
        model="m", fingerprint="f", prompts=PROMPTS, seeds=(0, 1, 2, 3), sigmas=(1.0, 0.5, 0.0),
        guidance=2.0,
    )  # fmt: skip
    rows = [
        Row(name="truth", role="truth", metrics={"kid": Estimate(0.0, math.nan, math.inf, 24, 4)}),
        Row(
            name="teacher", role="teacher_few", metrics={"kid": KID, "category_counting": KID},
            spec=spec, cost=Cost(seconds=2.5, images=96, model_calls=384),
        ),
    ]  # fmt: skip
    line = [Point.at("4", 4, KID)]
    evaluation = Evaluation(
        suite="quick", question="?", world="squares", rows=rows,
        comparisons=[
            Comparison(
                name="gap", metric="kid_gap_closed", rows=("student", "few", "teacher"),
                estimate=KID, goal=0.8,
            )
        ],
        grids={"grids/a.png": "fixed seeds"},
        sheets=[Sheet(file="sheets/a.png", caption="16 seeds", row="teacher", prompt="red 0")],
        curves=[Curve(title="t", caption="c", x="steps", y="KID", lines={"teacher": line})],
        notes=["FD was refused"],
    )  # fmt: skip
    write_evaluation(folder / "evaluation.json", evaluation)
    return json.loads((folder / "evaluation.json").read_text())


def test_specs_costs_and_intervals_are_written(tmp_path: Path) -> None:
    record = written(tmp_path)
    assert record["schema"] == 3
    truth, teacher = record["rows"]
    assert truth["spec"] is truth["cost"] is None and truth["metrics"]["kid"]["low"] is None
    told = teacher["spec"]
    assert told["sigmas"] == [1.0, 0.5, 0.0] and told["model_calls"] == 4
    assert told["n_prompts"] == 24 and len(told["prompts_hash"]) == 16
    assert teacher["cost"] == {
        "seconds": 2.5, "images": 96, "model_calls": 384, "peak_memory_mb": None,
    }  # fmt: skip
    compared = record["comparisons"][0]
    assert compared["goal"] == 0.8 and compared["rows"] == ["student", "few", "teacher"]
    assert record["grids"] == [{"file": "grids/a.png", "caption": "fixed seeds"}]
    point = record["curves"][0]["lines"][0]["points"][0]
    assert point["x"]["value"] == point["x"]["low"] == 4 and point["y"]["high"] == 0.02
    assert record["sheets"][0]["row"] == "teacher" and record["notes"] == ["FD was refused"]


def test_every_metric_is_explained(tmp_path: Path) -> None:
    told = written(tmp_path)["metrics"]
    assert list(told) == ["kid", "category_counting", "kid_gap_closed"]
    assert told["kid"]["better"] == "lower is better" and told["kid"]["target"] == 0
    assert told["category_counting"]["label"] == "Counting" and told["category_counting"]["percent"]
    assert metric("kid_dinov2").label == "KID (DINOv2)" and not metric("kid_dinov2").main
    assert metric("kid_standard_clip").label == "KID, standard (CLIP)"
    with pytest.raises(KeyError, match="no metric is called 'kid_of_my_own'"):
        metric("kid_of_my_own")


def test_what_is_best_as_the_truth_has_its_value_as_target() -> None:
    def told(*rows: Row) -> dict:
        return Evaluation(suite="", question="", world="", rows=rows).to_json()["metrics"]

    def row(role: Role, vendi: float) -> Row:
        metrics = {"vendi": replace(KID, value=vendi), "kid": replace(KID, value=vendi)}
        return Row(name=role, role=role, metrics=metrics)

    beside = told(row("truth", 2.98), row("other", 3.03))
    assert (beside["vendi"]["better"], beside["vendi"]["target"]) == ("as the truth", 2.98)
    assert beside["kid"]["target"] == 0  # its own, whatever the truth's is
    assert told(row("other", 3.03))["vendi"]["target"] is None
    assert told(row("truth", math.nan), row("other", 3.03))["vendi"]["target"] is None
    for key in ("vendi", "distance_clip", "lpips_alex", "lpips_vgg", "pixel_std"):
        assert metric(key).better == "as the truth"
        assert "without a world, near the reference model's" in metric(key).explained
