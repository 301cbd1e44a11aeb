"""The doctor's page in a real browser. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.browser.chromium import Page, chromium

from fewstep.report.doctor import verdict, write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path"),
]


def facts(*states: str) -> dict[str, Any]:
    rows = [
        {"check": f"check{i}", "asks": "Is it so?", "state": state, "seconds": 1.25, "facts": {},
         "evidence": f"evidence {i} <b>&", "fix": "do it " * 30 if state == "fail" else ""}
        for i, state in enumerate(states)
    ]  # fmt: skip
    made = {"versions": {"torch": "2"}, "cpu": "a processor"}
    return {"command": "fewstep doctor x", "environment": made, "checks": rows}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(CHROMIUM or "", tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_alone_and_fits_a_phone_and_a_desktop(
    page: Page, tmp_path: Path, width: int, scheme: str
) -> None:
    Image.fromarray(np.full((96, 900, 3), 128, np.uint8)).save(tmp_path / "grid.png")
    file = write_page(
        facts("pass", "fail", "skip", "warn"), {"check3": tmp_path / "grid.png"},
        tmp_path / "doctor.html",
    )  # fmt: skip
    page.show(file.as_uri(), width=width, scheme=scheme)
    sent = [s["request"]["url"] for s in page.named("Network.requestWillBeSent")]
    assert [url for url in sent if not url.startswith("data:")] == [file.as_uri()]
    assert page.named("Runtime.exceptionThrown") == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('h1').textContent").startswith("Repair check1 first")
    assert page.run("document.querySelectorAll('tbody tr').length") == 4
    assert "evidence 0 <b>&" in page.run("document.querySelector('tbody').textContent")
    shown = page.run("(i => [i.complete, i.naturalWidth])(document.querySelector('img.grid'))")
    assert shown == [True, 900]


def test_what_to_do_is_said_first() -> None:
    assert verdict(facts("pass", "fail", "fail")).startswith("Repair check1 first: evidence 1")
    assert verdict(facts("pass", "warn", "skip")) == "Nothing failed. Look at check1."
    assert verdict(facts("pass", "skip")) == "Nothing is wrong that these checks can see."
