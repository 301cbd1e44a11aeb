"""The report: complete, self-contained, honest about what is missing, and free of torch."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.unit.report.demo_run import COMMAND, FEW, FULL, STUDENT, demo_run

from fewstep.report.collect import Comparison, Curve, Number, collect
from fewstep.report.page import facts, render, tables, write_report
from fewstep.report.plots import panels, thinned
from fewstep.report.verdict import answer, shown
from fewstep.runs import RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Links(HTMLParser):
    """Every address that a browser would fetch, and how tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        names = ("src", "href", "xlink:href", "data")
        self.addresses += [str(values[name]) for name in names if name in values]
        if tag in ("script", "link", "iframe"):
            self.addresses.append(f"<{tag}>")
        if tag not in ("meta", "img", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use"):
            assert self.open.pop() == tag


def test_page_holds_what_the_run_holds(html: str) -> None:
    for expected in (
        "Does the 4-step student draw like its 30-step teacher?", FULL, FEW, STUDENT, COMMAND,
        "fewstep eval runs/demo", "85.4 %", "82.2 to 88.1", "goal is 80 %",
        "128 prompts \u00d7 4 seeds",
        "student_every: 2", "step 0", "step 200", "step 400", "Losses", "Gradient norms",
        "Real accuracy by head", "Fake accuracy by sigma", "Gap by head", "0123456789abcdef",
        "1, 0.9, 0.75, 0.5, 0", "versions.numpy", "More curves (1)",
    ):  # fmt: skip
        assert expected in html.replace("\u00a0", " "), expected
    assert html.count("data:image/png;base64,") == 4
    assert html.count("<svg") >= 8


def test_page_fetches_nothing_and_is_well_formed(html: str) -> None:
    links = Links()
    links.feed(html)
    assert links.open == []
    outside = [a for a in links.addresses if not a.startswith(("data:image/png", "#"))]
    assert outside == []
    assert not re.search(r"@import|url\((?!#)", html)


def test_plots_take_the_colour_of_the_page_and_share_no_ids(html: str) -> None:
    assert "currentColor" in html and "#010203" not in html
    ids = [i for part in html.split("<svg")[1:] for i in re.findall(r'id="(p[0-9a-f]{10})"', part)]
    assert ids and len(ids) == len(set(ids))


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: <script>alert(1)</script>\n")
    assert "&lt;script&gt;" in render(collect(tmp_path))
    assert "<script" not in render(collect(tmp_path))


def test_a_run_that_only_began_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "loss": 2.0}\n')
    page = write_report(tmp_path, tmp_path / "elsewhere.html").read_text()
    assert "Not measured yet" in page and "Losses" in page


def test_report_imports_no_torch(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fewstep.report.page import write_report; "
        f"write_report(Path({str(run)!r}), Path({str(tmp_path / 'r.html')!r})); "
        "bad = {'torch', 'diffusers', 'transformers'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert (tmp_path / "r.html").stat().st_size > 100_000


def test_what_cannot_be_read_is_one_clear_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        collect(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"rows": [{"name": "x"}]}')
    with pytest.raises(RunError, match="is not an evaluation"):
        collect(tmp_path)
    record = json.loads((run / "evaluation.json").read_text())
    for file in ("../secret.png", "grids/none.png"):
        record["grids"] = [{"file": file, "caption": ""}]
        (tmp_path / "evaluation.json").write_text(json.dumps(record))
        with pytest.raises(RunError, match="is not a file inside"):
            collect(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match="is not JSON"):
        collect(tmp_path)


def number(value: float, low: float = math.nan, high: float = math.nan) -> Number:
    return Number(value, low, high, 64, 4, 1)


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.85, 0.81, 0.9, "Yes"),
        (0.85, 0.7, 0.95, "Yes, though the interval reaches below the goal"),
        (0.5, 0.3, 0.7, "In part"),
        (0.1, -0.1, 0.3, "Not shown"),
        (-0.5, -0.8, -0.2, "No: it is worse than the teacher at few steps"),
    ],
)
def test_the_answer_is_as_careful_as_the_interval(
    value: float, low: float, high: float, words: str
) -> None:
    assert answer(Comparison("", "kid_gap_closed", 0.8, number(value, low, high))) == words


def test_no_gap_is_said_and_not_dressed_up(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "evaluation.json").read_text())
    record["comparisons"][0]["estimate"] |= {"low": None, "high": None}
    record["grids"] = []
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    assert "Cannot tell" in render(collect(tmp_path))


def test_rows_on_fewer_pictures_say_so(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "evaluation.json").read_text())
    record["grids"] = []
    for estimate in record["rows"][1]["metrics"].values():
        estimate["n_seeds"] = 2
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    found = collect(tmp_path)
    four, two = (f"128 prompts \u00d7 {n} seeds" for n in (4, 2))
    assert facts(found)[-1] == f"{four}, {two}"
    (_, _, shown_table), (_, _, parts) = tables(found.rows)
    assert [head.label for head in parts["heads"]] == ["Count", "Colour", "Shape"]
    assert [(row.role, calls, n) for row, _, calls, n in shown_table["rows"]] == [
        ("truth", "", four), ("teacher_full", "60", two), ("teacher_few", "4", four),
        ("student", "4", four),
    ]  # fmt: skip


def test_a_difference_of_shares_is_told_in_points(html: str) -> None:
    assert "\u22121.9 points" in html and "\u22121.9 %" not in html
    assert "85.4 points" not in html


def test_digits_follow_the_interval() -> None:
    assert shown(number(0.05231, 0.04713, 0.05749)) == ("0.0523", "0.0471 to 0.0575")
    assert shown(number(0.9571, 0.9361, 0.9781), percent=True) == ("95.7 %", "93.6 to 97.8")
    assert shown(number(-0.00001, -0.3, 0.3)) == ("0.00", "\u22120.30 to 0.30")
    assert shown(number(math.nan)) == ("n/a", "")
    assert shown(number(1.0)) == ("1.00", "")


def test_accuracy_by_sigma_divides_averages_and_leaves_empty_bins_out() -> None:
    steps = np.arange(4.0)
    share = np.array([[0.75, 0.25, 0], [0.25, 0.75, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    correct = share * np.array([0.9, 0.6, 0.0])
    shown_panels, rest = panels(
        {
            "heads/real_correct_by_sigma": Curve(steps, correct),
            "heads/real_share_by_sigma": Curve(steps, share),
        }
    )
    (panel,) = shown_panels
    assert panel.title == "Real accuracy by sigma" and rest == []
    values = [line.values for line in panel.lines.values()]
    np.testing.assert_allclose(values[0], 0.9)
    np.testing.assert_allclose(values[1], 0.6)
    assert np.isnan(values[2]).all()


def test_thinning_keeps_the_mean_and_skips_what_is_not_finite() -> None:
    values = np.arange(1000.0)[:, None]
    values[3] = np.inf
    steps, found = thinned(np.arange(1000.0), values, points=10)
    assert len(steps) == 10
    assert found[1, 0] == pytest.approx(149.5)
    assert found[0, 0] == pytest.approx((99 * 100 / 2 - 3) / 99)
