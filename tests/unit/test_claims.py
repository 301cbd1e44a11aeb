import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewstep import claims
from fewstep.claims import Claim, main, read, rewrite, table, verdict, write

ROOT = Path(__file__).parents[2]

SPEED = Claim(
    id="area.speedup",
    claim="One-pass step against the naive one",
    value=1.4321,
    low=1.25,
    high=1.6,
    n=5,
    unit="x",
    goal=">= 1.3",
    met=True,
    command="python benchmarks/speed.py",
    hardware="2 cores",
    versions={"torch": "2.13.0"},
    date="2026-01-31",
    note="",
)
MISSING = replace(
    SPEED, id="area.gpu", value=None, low=None, high=None, n=None, met=None, note="no | GPU"
)


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [
        (0.8, ">= 0.8", True),
        (0.79, ">= .8", False),
        (10.0, "<= 10", True),
        (10.1, "<= 10", False),
        (1.0, "0.9 to 1.1", True),
        (1.2, "0.9 to 1.1", False),
        (0.8, "0.9 to 1.1", False),
        (3.0, "", None),
        (None, ">= 1", None),
    ],
)
def test_verdict(value, goal, met):
    assert verdict(value, goal) is met


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"met": False}, r"met = False.*is True"),
        ({"value": 1.0, "low": 0.9, "high": 1.1}, r"met = True.*is False"),
        ({"goal": "about 3", "met": None}, "goal must read"),
        ({"value": 2.0}, "outside its interval"),
        ({"low": 1.7, "high": 1.6, "value": None, "met": None, "note": "x"}, "outside"),
        ({"value": float("nan")}, "finite"),
        ({"value": None, "met": None}, "note must say why"),
        ({"id": "speedup"}, r"area\.name"),
    ],
)
def test_contradictions_are_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        replace(SPEED, **changes)


def test_records_hold_exactly_the_fields_of_the_contract(tmp_path):
    path = write([SPEED], "area", tmp_path)
    assert path == tmp_path / "area.json"
    (record,) = json.loads(path.read_text())
    fields = "id claim value low high n unit goal met command hardware versions date note"
    assert list(record) == fields.split()


def test_write_merges_by_id_and_sorts(tmp_path):
    write([SPEED], "area", tmp_path)
    write([MISSING], "area", tmp_path)
    newer = replace(SPEED, value=1.5)
    write([newer], "area", tmp_path)
    assert read(tmp_path / "area.json") == [MISSING, newer]


def test_write_refuses_other_areas_and_changes_nothing(tmp_path):
    write([SPEED], "area", tmp_path)
    with pytest.raises(ValueError, match="does not belong"):
        write([MISSING, replace(SPEED, id="other.speedup")], "area", tmp_path)
    assert read(tmp_path / "area.json") == [SPEED]


@pytest.mark.parametrize("text", ["{", '[{"id": "area.x"}]', "[1]", "3"])
def test_a_file_of_anything_else_is_an_error(tmp_path, text):
    (tmp_path / "area.json").write_text(text)
    with pytest.raises(ValueError, match=r"area\.json is not a list of claim records"):
        read(tmp_path / "area.json")


def test_table():
    rows = table([SPEED, MISSING]).splitlines()
    assert rows[2] == (
        "| One-pass step against the naive one | not measured: no \\| GPU |  |  | >= 1.3 |  "
        "| `area.gpu` |"
    )
    assert rows[3] == (
        "| One-pass step against the naive one | 1.432 x | 1.25 to 1.6 | 5 | >= 1.3 | yes "
        "| `area.speedup` |"
    )
    missed = replace(SPEED, value=1.2, low=None, high=None, met=False)
    assert "| 1.2 x |  | 5 | >= 1.3 | **no** |" in table([missed])


TEXT = "before\n<!-- claims:area -->\nold\n<!-- /claims -->\nafter\n"


def test_rewrite_makes_blocks_and_touches_nothing_else(tmp_path):
    write([SPEED], "area", tmp_path)
    new = rewrite(TEXT + TEXT, tmp_path)
    block = f"<!-- claims:area -->\n{table([SPEED])}\n<!-- /claims -->"
    assert new == f"before\n{block}\nafter\n" * 2
    assert rewrite(new, tmp_path) == new
    assert claims.areas(new) == {"area"}
    assert rewrite("no block", tmp_path) == "no block"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TEXT.replace("claims:area", "claims:other"), "no .*other.json"),
        (TEXT.replace("<!-- /claims -->", ""), "not closed"),
        (TEXT.replace("-->\nold", "--> old"), "not closed"),
    ],
)
def test_bad_blocks_are_refused(tmp_path, text, why):
    write([SPEED], "area", tmp_path)
    with pytest.raises(ValueError, match=why):
        rewrite(text, tmp_path)


def test_command_line(tmp_path, capsys):
    write([SPEED], "area", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(TEXT)
    arguments = ["--readme", str(readme), "--results", str(tmp_path)]
    assert main(arguments) == 0
    assert readme.read_text() == rewrite(TEXT, tmp_path)
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("up to date")
    readme.write_text(TEXT.replace("area", "other"))
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: there is a block claims:other")


def test_the_documents_of_this_project_agree_with_its_records():
    """If this fails: python -m fewstep.claims --readme README.md (and the page that it names)."""
    documents = [p for p in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if p.exists()]
    stated: set[str] = set()
    for path in documents:
        text = path.read_text()
        assert rewrite(text, ROOT / "results") == text, f"{path.relative_to(ROOT)} is out of date"
        stated |= claims.areas(text)
    measured = {path.stem for path in (ROOT / "results").glob("*.json")}
    for area in measured:
        read(ROOT / "results" / f"{area}.json")
    assert measured <= stated, f"no document shows {sorted(measured - stated)}"
