"""Nothing that a run or an evaluation says becomes markup, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tests.unit.report.demo_run import Invented, demo_run
from tests.unit.report.outline import Outline

from fewstep.report.collect import collect
from fewstep.report.page import render, write_report


def test_page_fetches_nothing_and_is_well_formed(tmp_path: Path) -> None:
    html = write_report(demo_run(tmp_path / "demo")).read_text(encoding="utf-8")
    outline = Outline(html)
    assert outline.open == []
    outside = [a for a in outline.addresses if not a.startswith(("data:", "#"))]
    assert outside == [] and len(outline.addresses) > 10
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|WebSocket", html)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', html)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert policy is not None and script is not None
    (only,) = re.findall(r"script-src 'sha256-(.*?)'", policy[1])
    assert base64.b64decode(only) == hashlib.sha256(script[1].encode()).digest()
    assert policy[1].startswith("default-src 'none'; img-src data:; ")
    assert {a[1:] for a in outline.addresses if a.startswith("#")} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    (tmp_path / "config.yaml").write_text(f"name: {script}\n")
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "{script}": 2.0, "gap": 1}}\n')
    page = render([collect(tmp_path)])
    assert "&lt;script&gt;" in page and script not in page


BAD = """<b0></b0>&lt; " onclick="x" ' onclick='x' """
KEPT = ("file", "role", "group", "better", "metric", "sampler")
"""Texts of an evaluation that choose among known ones."""


def spoiled(value: Any, key: str = "") -> Any:
    """The same JSON with markup in every text that a name or a prompt could bring."""
    match value:
        case dict():
            return {k: spoiled(v, k) for k, v in value.items()}
        case list():
            return [spoiled(v, key) for v in value]
        case str() if key not in KEPT:
            return BAD + value
        case _:
            return value


def test_no_text_of_an_evaluation_or_a_run_becomes_markup(tmp_path: Path) -> None:
    names = (f"{i}<b0>" for i in range(2))
    runs = [demo_run(tmp_path / name, Invented(seed=i)) for i, name in enumerate(names)]
    for run in runs:
        for name in ("evaluation.json", "env.json"):
            path = run / name
            path.write_text(json.dumps(spoiled(json.loads(path.read_text()))))
        (run / "samples" / "<b0>.png").write_bytes(
            (run / "samples" / "step_000000.png").read_bytes()
        )
    for chosen in (runs[:1], runs):
        page = write_report(*chosen, path=tmp_path / "page.html").read_text()
        outline = Outline(page)
        assert outline.open == [] and page.count("&lt;b0&gt;") > 100
        assert not [tag for tag, _ in outline.tags if tag == "b0"]
        assert not [tag for tag, values in outline.tags if "onclick" in values]
