"""A page of tuning: the states, the looks, the teacher and the pictures, as their files say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.report.drawing import Drawing, same, series
from tests.unit.report.outline import Outline
from tests.unit.report.tuned_run import CFG, FAULT, LOOKS, tuned_run

from fewstep.report.collect import Training, collect
from fewstep.report.looks import overlaid, panels_of, table_of, told, verdict_of
from fewstep.report.page import write_report
from fewstep.report.panels import of_one
from fewstep.report.plots import Panel, svg
from fewstep.report.tuning import Gauge
from fewstep.report.tuning_files import read_tuning
from fewstep.runs import RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory.mktemp("runs") / "tuned")


@pytest.fixture(scope="module")
def gauge(run: Path) -> Gauge:
    found = read_tuning(run).gauge
    assert found is not None
    return found


def values(panel: Panel) -> dict[str, list[float]]:
    return {line.label: line.series.values[:, 0].tolist() for line in panel.lines}


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.replace("\u00a0", " ")))


def test_looks_are_drawn_with_the_one_that_is_kept(gauge: Gauge) -> None:
    concept, loss, adherence, sharpness, *rest = panels_of(gauge)
    assert values(concept) == {"each look": [c for c, _ in LOOKS], "kept": [0.43]}
    assert concept.lines[1].series.steps.tolist() == [100]
    assert values(loss) == {"each look": [x for _, x in LOOKS], "kept": [0.06]}
    assert [(b.low, b.high, b.state) for b in loss.bands] == [
        (-np.inf, 0.1, "good"), (0.5, np.inf, "bad"),
    ]  # fmt: skip
    lines = values(adherence)
    assert list(lines) == [
        "4 steps", "8 steps", "30 steps", "4, untouched", "8, untouched", "30, untouched",
    ]  # fmt: skip
    assert lines["30, untouched"] == pytest.approx([0.93] * 6)
    assert lines["30 steps"] == pytest.approx([0.93 - x for _, x in LOOKS])
    assert [line.dashed for line in adherence.lines] == [False] * 3 + [True] * 3
    assert values(sharpness)["8 steps"] == pytest.approx([1, 1.01, 1.02, 1.03, 1.04, 1.05])
    assert [panel.title.split(",")[0] for panel in rest] == [
        "Fine detail", "Saturation", "Shift of the pictures",
    ]  # fmt: skip
    same(
        Drawing(svg(concept)).lines("var(--k0)"), [[(20 * i, c) for i, (c, _) in enumerate(LOOKS)]]
    )
    same(Drawing(svg(concept)).dots("var(--k1)"), [(100, 0.43)])


def test_every_look_says_what_followed(gauge: Gauge) -> None:
    assert [(look.step, look.word, look.state) for look in told(gauge)] == [
        (0, "before training", None), (20, "", None), (40, "", None),
        (60, "collapsed: back to step 40, rates \u00d7 0.5", "bad"), (80, "not within", None),
        (100, "kept", "good"),
    ]  # fmt: skip
    table = table_of(gauge)
    assert table.step == 100 and [n for n, _ in table.rows] == [4, 8, 30]
    assert table.columns == [
        "Adherence", "Adherence, untouched", "Sharpness", "Fine detail", "Saturation", "Shift",
        "Loss",
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[2][1]] == [
        "87.0 %", "93.0 %", "1.050", "1.500", "0.900", "0.015", "0.060",
    ]  # fmt: skip


def test_the_verdict_says_what_is_kept_and_why(gauge: Gauge, tmp_path: Path) -> None:
    found = verdict_of(gauge)
    assert found.answer == "Step 100 is kept"
    assert found.sentence.startswith(
        "Of the looks with a loss within retention.tolerance = 0.1 (3 "
    )
    assert "concept score is 0.430, its loss outside of the concept 0.060" in found.sentence
    strict = tuned_run(tmp_path / "strict", cfg=replace(CFG, tolerance=0.0, collapse=0.01))
    none = read_tuning(strict).gauge
    assert none is not None and none.kept == 0
    said = verdict_of(none)
    assert said.answer == "Nothing is kept"
    assert "every other look has collapsed" in said.sentence
    assert "The gauge ended the run: collapse number 5 at step 100" in said.sentence
    assert table_of(none).step == 100  # the last, for there is no other
    assert [look.word for look in told(none)][1:4] == [
        "collapsed: back to step 0, rates \u00d7 0.5", "collapsed", "collapsed",
    ]  # fmt: skip


def test_without_a_world_there_is_no_adherence(tmp_path: Path) -> None:
    found = read_tuning(tuned_run(tmp_path / "unjudged", judged=False)).gauge
    assert found is not None
    assert "Adherence" not in [panel.title for panel in panels_of(found)]
    assert table_of(found).columns[0] == "Sharpness"


def test_the_states_of_a_roll_out_have_their_levels(run: Path) -> None:
    training = collect(run).training
    assert training is not None
    shown, _ = of_one(training)
    by_title = {panel.title: panel for panel in shown}
    states = values(by_title["Distil by state"])
    assert list(states) == ["sigma 1", "sigma 0.9", "sigma 0.75", "sigma 0.5"]
    assert states["sigma 1"] == pytest.approx([0.0004 * i for i in range(1, 11)])
    assert set(values(by_title["Losses"])) == {"loss", "distil"}
    assert values(by_title["Tether to the model before training"])["tether"] == [0.001] * 10
    assert "Tether by state" in by_title
    bare = replace(training, levels=())
    assert "state 3" in [
        line.label for panel in of_one(bare)[0] for line in panel.lines
    ]  # fmt: skip


def test_the_yardsticks_have_their_panels() -> None:
    logged = ("loss", "concept", "prior", "target", "own", "preferred")
    shown, rest = of_one(Training(
        series={f"student/{name}": series(0.5) for name in logged}, begun=None, steps=1,
        seconds=None, skipped=None, not_finite=0, cpu_seconds=None, gpu_seconds=None,
        peak_memory_mb=None,
    ))  # fmt: skip
    assert [sorted(values(panel)) for panel in shown] == [
        ["concept", "loss", "prior"], ["own", "target"], ["preferred"],
    ]  # fmt: skip
    assert rest == [] and shown[2].share


def test_the_page_holds_all_of_it(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    said = plain(html)
    for expected in (
        "Did the model learn the new thing and keep the rest?", "Step 100 is kept",
        "Concept score 0.430", "tolerance 0.1", "Outside of the concept, at step 100",
        "Captions of the training pictures", "Prompts outside of the concept, 4 steps",
        "step 100, which is kept", "collapsed: back to step 40", "The teacher passes",
        "0.190 0.110 to 0.250", "All else that was asked", "check.zoom", "good.png", "96 \u00d7 64",
        "a [V] on a wall", "1 picture, 1 left out", "Left out: bare.png", "Ignored notes.md",
        "a [V] on a wall 2 further prompts three [V]s a [V] beside a dog",
    ):  # fmt: skip
        assert expected in said, expected
    assert said.count("Step 100 is kept") == 1  # the first screen says it
    outline = Outline(html)
    assert html.count("<details><summary>2 further prompts</summary>") == 1
    assert outline.open == [] and len(set(outline.ids)) == len(outline.ids)
    assert {a[1:] for a in outline.addresses if a.startswith("#")} <= set(outline.ids)
    assert html.count("data:image/") == 1 + 4  # the teacher's grid and the looks' strips


def test_a_teacher_that_failed_says_why_and_that_it_was_forced(tmp_path: Path) -> None:
    said = plain(write_report(tuned_run(tmp_path / "forced", forced=True)).read_text())
    assert "The teacher fails; the run was forced" in said and f"{FAULT[1:]}." in said
    assert "0.20 0.10 to 0.30 0.08 check.tint too far" in said
    assert said.count("too far") == 2  # the caption explains it


def test_several_runs_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = tuned_run(tmp_path / "other", judged=False)
    page = write_report(run, other, path=tmp_path / "both.html").read_text()
    said = plain(page)
    assert said.count("Step 100 is kept") == 2  # a card for each run
    assert "at step 100 of tuned" in said and "at step 100 of other" in said
    assert Outline(page).open == []
    gauges = {name: g for name, own in (("a", run), ("b", other)) if (g := read_tuning(own).gauge)}
    concept, loss = overlaid(gauges)
    assert list(values(concept)) == ["a", "b"] == list(values(loss))


def test_a_run_that_tunes_nothing_has_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "loss": 2.0}\n')
    page = write_report(tmp_path).read_text()
    for absent in ('id="learnt"', "#learnt", 'id="teacher"', 'id="data"'):
        assert absent not in page
    assert "Does the few-step student draw like its teacher?" in page


def spoil(path: Path, change: Callable[[Any], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_no_text_of_a_picture_or_a_fault_becomes_markup(tmp_path: Path) -> None:
    directory, bad = tuned_run(tmp_path / "r", forced=True), "<b0></b0>"
    spoil(directory / "data.json", lambda x: x["folder"]["rows"][0].update(captions=[bad]))
    spoil(directory / "data.json", lambda x: x["folder"]["rows"][0].update(prompts=[bad]))
    spoil(directory / "data.json", lambda x: x["folder"]["left_out"][0].update(why=bad))
    spoil(directory / "teacher.json", lambda x: x.update(faults=[bad]))
    spoil(directory / "retention.json", lambda x: x.update(why=bad))
    page = write_report(directory).read_text()
    assert page.count("&lt;b0&gt;") >= 5 and "<b0>" not in page


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("retention.json", lambda x: x.update(kept=70), "kept must be the step of a row"),
        ("retention.json", lambda x: x.pop("why"), "why is missing"),
        ("teacher.json", lambda x: x["gain"]["all"].pop("low"), "gain.all.low is missing"),
        ("data.json", lambda x: x["folder"]["rows"][0].update(pixels=[1]), "a width and a height"),
    ],
)
def test_what_cannot_be_understood_is_named(
    tmp_path: Path, name: str, change: Callable[[Any], object], said: str
) -> None:
    directory = tuned_run(tmp_path / "r")
    spoil(directory / name, change)
    with pytest.raises(RunError, match=said) as raised:
        read_tuning(directory)
    assert name in str(raised.value)


def test_a_broken_line_of_the_looks_is_named(tmp_path: Path) -> None:
    path = tuned_run(tmp_path / "r") / "retention.jsonl"
    path.write_text(path.read_text() + "{")
    with pytest.raises(RunError, match=r"retention.jsonl, which belongs to it, is not JSON lines"):
        read_tuning(path.parent)
    path.write_text(path.read_text()[:-1].replace('"30"', '"many"'))
    with pytest.raises(RunError, match="must have a number of steps as its name"):
        read_tuning(path.parent)
