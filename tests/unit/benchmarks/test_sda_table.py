"""Pages, tables and figures of the SDA studies, on invented results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import pages
from benchmarks.sda_figures import Shown, labelled, references, write_figure
from benchmarks.sda_plan import plan
from benchmarks.sda_records import Told
from benchmarks.sda_results import Found, Result
from benchmarks.sda_rows import gather
from benchmarks.sda_table import as_json, page
from benchmarks.study_plan import changed

from fewstep.evaluate.statistics import Estimate
from fewstep.recipes.sda import sda_shapes

BASE = changed(sda_shapes(), {"method.pool": 2, "method.estimate": "straight"})
METRICS = ("kid", "adherence", "adherence_count", "layout_diversity", "distance", "vendi",
           "pixel_std", "sharpness", "high_frequency", "saturation")  # fmt: skip


def fixed(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1, 64, 16)


def result(name: str, seed: int | None, layout: float) -> Result:
    found = Found(
        metrics=dict.fromkeys(METRICS, fixed(0.5)),
        shares={"layout_diversity": fixed(layout), "distance": fixed(0.7), "vendi": fixed(0.6)},
        changes={"kid": fixed(-0.01), "adherence": fixed(-0.25)},
        relative={"sharpness": fixed(0.03), "high_frequency": fixed(0.01)},
    )
    return Result(name=name, seed=seed, minutes=7.5, calls=4, found=found)


def shown(study: str, on: str, results: list[Result]) -> Shown:
    bench = plan(study, on, BASE, "assistant.safetensors")
    told = Told(on=on, study=bench.study, rows=gather(bench, results), prompts=64, seeds=16)
    names = ("true pictures", "teacher, 20 steps, w = 2", "teacher, 4 steps", "student, 4 steps")
    return Shown(told=told, known={name: dict.fromkeys(METRICS, fixed(0.4)) for name in names})


ABLATIONS = [result(name, seed, layout) for seed in range(3)
             for name, layout in (("default", 0.8), ("card", 0.3 + 0.1 * seed))]  # fmt: skip
YARDSTICKS = [result("adapter", 0, 0.8), result("first_w1", None, 0.2)]
STRENGTHS = [result(name, seed, 0.1 * i) for seed in range(2)
             for i, name in enumerate(("strength0", "strength1", "first1"))]  # fmt: skip


def test_the_page_of_the_ablations() -> None:
    one = shown("ablations", "4", ABLATIONS)
    text = page("ablations", [one], "p.png")
    lines = [line for line in text.splitlines() if line.startswith("| clean estimate: x - v")]
    own, minus, _ = lines
    assert own.startswith("| clean estimate: x - v | 3 | 40.0 % (15.2 to 64.8) | 70.0 % ")
    assert "| -25.0 % (-25.0 to -25.0) | 3.0 % (3.0 to 3.0) |" in own and own.endswith("7.5 | 4 |")
    assert minus.startswith("| clean estimate: x - v | -40.0 % (-64.8 to -15.2) | 0.0 % ")
    assert "| recipe | 3 | 80.0 % (80.0 to 80.0) |" in text and "adherence count" in text
    assert "64 test prompts x 16 seeds" in text and "- x " not in text.split("Without pictures")[0]


def test_the_record_of_a_study_is_json() -> None:
    record = json.loads(json.dumps(as_json(shown("ablations", "4", ABLATIONS)), allow_nan=False))
    first, second = record["rows"]
    assert first["shares_minus_first"] == {}
    gained = second["shares_minus_first"]["layout_diversity"]
    assert gained["value"] == pytest.approx(-0.4) and gained["n_runs"] == 3
    by_seed = second["shares_by_seed"]["layout_diversity"]
    assert [by_seed[str(s)]["value"] for s in range(3)] == pytest.approx([0.3, 0.4, 0.5])
    assert second["minutes"] == [7.5] * 3 and record["student_steps"] == 4


def test_what_has_no_pictures_is_named() -> None:
    failed = Result(name="card", seed=1, minutes=1.0, calls=4, failed="the loss was nan")
    one = shown("ablations", "4", [result("default", 1, 0.8), failed])
    text = page("ablations", [one], "p.png")
    assert "- clean estimate: x - v, training seed 1: the loss was nan" in text
    assert "| clean estimate: x - v | 1 | - |" in text
    assert as_json(one)["rows"][1]["failed"] == {"1": "the loss was nan"}


@pytest.mark.parametrize(
    ("study", "students"),
    [
        ("seeds", [("4", [result("default", 0, 0.8)])]),
        ("ablations", [("4", ABLATIONS)]),
        ("yardsticks", [("4", YARDSTICKS), ("8", YARDSTICKS)]),
        ("strengths", [("4", STRENGTHS)]),
    ],
)
def test_every_study_has_its_page_and_figure(
    study: str, students: list[tuple[str, list[Result]]], tmp_path: Path
) -> None:
    found = [shown(study, on, results) for on, results in students]
    write_figure(study, found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    text = page(study, found, "p.png")
    assert text.count("## The student of") == len(students)
    if study == "yardsticks":
        assert text.count("Best without training: first step by the teacher: w = 1.") == 2


def test_the_legend_explains_the_lines_of_all_panels(tmp_path: Path) -> None:
    """The goal is a line of the shares alone, the rest are in each panel."""
    one = shown("ablations", "4", ABLATIONS)
    with pages.figure(tmp_path / "figure.png", 2, (6, 2)) as axes:
        references(axes[0], [one], "shares", "layout_diversity")
        references(axes[1], [one], "metrics", "kid")
        assert list(labelled(axes)) == ["student", "teacher, full steps", "goal"]
