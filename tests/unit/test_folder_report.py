"""What is told about a folder: its rows, buckets and captions, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.test_folder import put, read

from fewstep.data import folder_report


def test_the_report_says_rows_buckets_and_captions(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "a cat\na black cat", width=200, height=100, seed=1)
    put(tmp_path / "b.png", seed=2)
    put(tmp_path / "c.png", None, seed=3)
    folder = read(tmp_path)
    facts = json.loads(json.dumps(folder_report.facts(folder)))
    assert facts["rows"][0] == {
        "file": "a.png", "content": folder.pictures[0].content, "pixels": [200, 100],
        "bucket": [88, 48], "cropped": 0.0833, "scale": 0.48, "repeats": 1,
        "captions": ["a cat", "a black cat"], "enhanced": [], "prompts": [],
    }  # fmt: skip
    assert facts["buckets"] == {"88 x 48": 1, "64 x 64": 1}
    assert facts["left_out"] == [
        {"file": "c.png", "fault": "no caption", "why": "there is no c.txt beside it"}
    ]
    lines = folder_report.lines(folder)
    assert lines[0] == "a.png: 200 x 100 to 88 x 48, 8% cropped: 'a cat' and 1 more"
    assert lines[-1] == (
        f"{tmp_path}: 2 pictures with 3 captions, 1 left out; at most 8% of a picture cropped; "
        "buckets 88 x 48 (1), 64 x 64 (1)"
    )


def test_a_run_tells_of_what_it_leaves_out_and_lines_stay_lines(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "a cat, " * 50, seed=1)
    put(tmp_path / "line\nbreak.png", seed=2)
    for i in range(10):
        put(tmp_path / f"{i}.png", None, seed=9)
    folder = read(tmp_path)
    brief = folder_report.brief(folder_report.facts(folder))
    assert brief[0] == "left out: 0.png: no caption: there is no 0.txt beside it"
    assert brief[8:] == [
        "and 2 more, see data.json",
        f"{tmp_path}: training on 2 pictures, 10 left out, 0 warnings",
    ]
    [first, second, *_] = folder_report.lines(folder)
    assert first.endswith(" cat, a ...'") and len(first) < 160
    assert second.startswith("line break.png: 80 x 80")
