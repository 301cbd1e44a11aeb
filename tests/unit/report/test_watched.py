"""The part of a page that is about health, of a run as its watch leaves it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.unit.report.demo_run import pictures
from tests.unit.report.drawing import Drawing, same

from fewstep.experiment.strips import write_strip
from fewstep.jsonl import no_nan
from fewstep.report.collect import collect
from fewstep.report.health_plots import panels_of_health
from fewstep.report.page import write_report
from fewstep.report.plots import svg
from fewstep.report.watched import read_watched
from fewstep.runs import Run, RunError
from fewstep.train.alarms import GO_BACK, WatchConfig, course, told
from fewstep.train.signs import Look

AWAY = (0.0, 0.1, 0.2, 0.7, 0.9, 0.1)
"""Of looks at steps 0, 20, ...: an alarm at 80."""


def watched_run(directory: Path, away: tuple[float, ...] = AWAY, steps: int = 200) -> Path:
    looks = [
        Look(step=20 * i, values={"away": value, "detail": 2.0} | ({"gap": 0.1} if i else {}),
             beside={} if i else {"detail": 4.0})
        for i, value in enumerate(away)
    ]  # fmt: skip
    with Run.create(directory, "seed: 0\n", {"command": "fewstep train ladd_shapes"}) as run:
        run.log(20, phase="student", loss=1.0)
    lines = [json.dumps(no_nan(vars(look))) + "\n" for look in looks]
    (directory / "health.jsonl").write_text("".join(lines))
    found = course(looks, WatchConfig(every=20, policy=GO_BACK), steps=steps, checkpoint_every=20)
    (directory / "health.json").write_text(json.dumps(no_nan(told(looks, found))))
    for alarm in found.alarms:
        folder = directory / "evidence" / f"step_{alarm.step:08d}"
        write_strip(folder / "before.png", pictures(1, 0, 4))
        write_strip(folder / "pictures.png", pictures(3, 1, 4))
    return directory


def test_bands_and_alarms_are_drawn(tmp_path: Path) -> None:
    found = read_watched(watched_run(tmp_path / "a"))
    assert found is not None and found.verdict == "1 alarm" and not found.stop
    gap, away, detail = panels_of_health({"a": found})
    assert [panel.title for panel in (gap, away, detail)] == [
        "Gap of the heads' logits", "Distance of pictures from those before training",
        "Fine detail",
    ]  # fmt: skip
    assert [(b.low, b.high, b.where) for b in away.bands] == [(-math.inf, 0.5, "up to 0.5")]
    [band] = detail.bands  # a share of the smaller, a multiple of the larger
    assert (band.low, band.high) == pytest.approx((0.3 * 2.0, 3.0 * 4.0))
    drawing = Drawing(svg(away))
    same(drawing.lines("var(--k0)"), [[(20 * i, value) for i, value in enumerate(AWAY)]])
    same(drawing.dots("var(--k4)"), [(80, 0.9)])
    assert [line.label for line in gap.lines] == ["each look"]
    assert gap.lines[0].series.steps.tolist() == [20, 40, 60, 80, 100]


def test_a_table_says_what_followed(tmp_path: Path) -> None:
    directory = watched_run(tmp_path / "a")
    found = read_watched(directory)
    assert found is not None
    [alarm] = found.alarms
    assert (alarm.step, alarm.name, alarm.value) == (80, "far", 0.9)
    assert (alarm.healthy, alarm.followed) == ("up to 0.5", "back to step 40")
    [(step, strips)] = found.evidence
    assert step == 80 and [p.caption for p in strips] == ["before training", "at the alarm"]
    html = write_report(directory).read_text(encoding="utf-8")
    for part in ('href="#health"', "1 alarm", "back to step 40", "Pictures at step 80"):
        assert part in html
    ended = read_watched(watched_run(tmp_path / "b", AWAY[:5], steps=80))
    assert ended is not None and ended.stop == "the alarm far at its last step"
    well = read_watched(watched_run(tmp_path / "c", (0.0, 0.1)))
    assert well is not None and well.verdict == "No alarm" and well.evidence == []


def test_several_runs_share_a_plot_of_each_sign(tmp_path: Path) -> None:
    runs = [watched_run(tmp_path / "a"), watched_run(tmp_path / "b", (0.0, 0.3))]
    watched = {r.name: r.watched for r in map(collect, runs) if r.watched}
    panels = panels_of_health(watched)
    assert [[line.label for line in panel.lines] for panel in panels] == [["a", "b"]] * 3
    assert not any(panel.bands for panel in panels)
    page = write_report(*runs, path=tmp_path / "both.html").read_text(encoding="utf-8")
    assert "Pictures at step 80, a" in page


def test_a_number_that_is_not_finite_is_left_out_of_the_line(tmp_path: Path) -> None:
    directory = watched_run(tmp_path / "a", (0.0, 0.1, math.nan, 0.2))
    found = read_watched(directory)
    assert found is not None
    [alarm] = found.alarms
    assert math.isnan(alarm.value) and alarm.followed == "back to step 20"
    assert "nan" in write_report(directory).read_text(encoding="utf-8")


def test_a_sign_without_a_look_yet_has_no_plot(tmp_path: Path) -> None:
    """As between the start of a run that goes on and its first look."""
    directory = watched_run(tmp_path / "a")
    first = (directory / "health.jsonl").read_text().splitlines(keepends=True)[0]
    (directory / "health.jsonl").write_text(first)
    found = read_watched(directory)
    assert found is not None and len(panels_of_health({"a": found})) == 2
    write_report(directory)
    other = watched_run(tmp_path / "b")
    write_report(directory, other, path=tmp_path / "both.html")


def test_files_that_cannot_be_understood_are_named(tmp_path: Path) -> None:
    directory = watched_run(tmp_path / "a")
    assert read_watched(tmp_path) is None
    (directory / "health.jsonl").write_text("no\n")
    with pytest.raises(RunError, match=r"health\.jsonl, which belongs to it, is not JSON lines"):
        read_watched(directory)
    (directory / "health.json").write_text('{"bands": {}, "alarms": 3}')
    (directory / "health.jsonl").write_text("")
    with pytest.raises(RunError, match="alarms must be a list, got 3"):
        read_watched(directory)
