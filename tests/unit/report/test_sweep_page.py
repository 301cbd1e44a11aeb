"""The page of a sweep says what its record says, and leaves out what is not there."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.unit.report.swept import facts, trial

from fewstep.report.sweep import write_page


class Tables(HTMLParser):
    """Texts of the cells by the id of the section that their table stands in."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.section = ""
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.section = dict(attrs).get("id") or ""
        elif tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.rows[self.section][-1].append("")
            self.inside = True
        elif tag == "small" and self.inside:
            self.rows[self.section][-1][-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[self.section][-1][-1] += data


def tables(path: Path) -> dict[str, list[list[str]]]:
    parser = Tables()
    parser.feed(path.read_text())
    return {section: rows[1:] for section, rows in parser.rows.items()}


def test_its_values_are_those_of_the_record(tmp_path: Path) -> None:
    found = facts()
    page = write_page(found, tmp_path / "sweep.html")
    text, rows = page.read_text(), tables(page)
    assert found["verdict"] in text and "better than the recipe" in text
    assert [row[0] for row in rows["ranking"]] == ["trial 2", "trial 3", "the recipe", "trial 1",
                                                   "trial 4"]  # fmt: skip
    by_name = {row[0]: row for row in rows["ranking"]}
    for own in found["trials"][:5]:
        name = "the recipe" if own["number"] == 0 else f"trial {own['number']}"
        kid = own["metrics"]["kid"]
        shown = f"{kid['value']:.3f} | {kid['low']:.3f} to {kid['high']:.3f}"
        assert by_name[name][2] == shown
    assert by_name["trial 2"][3].startswith("\u22120.050 | ")
    assert by_name["trial 2"][3].endswith(" | better") and "better" not in by_name["trial 1"][3]
    assert by_name["trial 2"][1] == "optim.student.lr = 0.0001, method.loss = hinge"
    assert rows["fresh"][1][:2] == ["trial 2", "0.050 | 0.040 to 0.060"]
    words = ["what others are held against", "better than the recipe", "may be chance"]
    assert [row[-1] for row in rows["fresh"]] == words
    assert rows["diff"] == [["optim.student.lr", "0.0001", "0.001"]]
    assert [row[0] for row in rows["reasons"]] == ["trial 5", "trial 6"]
    assert rows["reasons"][0][3] == "worse than trial 2 <by> 0.3 & more"
    assert rows["reasons"][1][2] == "failed"
    # tool tips name every scored trial in both plots
    assert text.count("<title>trial 2: KID 0.05") == text.count("<title>recipe: KID 0.1") == 2
    assert "trial 5: KID 0.4" in text
    assert "80" in text and len(re.findall("<svg", text)) == 3
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    found = facts(over=False, trials=[trial(0, diversity=None)])
    found |= {"importance": {}, "diff": [], "front": [], "winner": 0, "space": {}}
    page = write_page(found, tmp_path / "sweep.html")
    text = page.read_text()
    assert "not run on new seeds yet" in text and "<svg" not in text
    assert tables(page).keys() == {"ranking"}
    assert tables(page)["ranking"][0][4] == "n/a"


@pytest.mark.parametrize("count", [0, 1])
def test_a_sweep_that_has_hardly_begun_has_a_page(tmp_path: Path, count: int) -> None:
    found = facts(over=False, trials=[trial(0)][:count] or [trial(0, "failed", why="no disk")])
    write_page(found | {"winner": 0, "front": []}, tmp_path / "sweep.html")
