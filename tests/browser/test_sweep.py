"""The page of a sweep in a real browser. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.chromium import Page, chromium
from tests.unit.report.swept import facts

from fewstep.report.sweep import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(CHROMIUM or "", tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_alone_fits_and_scrolls_by_keyboard(
    page: Page, tmp_path: Path, width: int, scheme: str
) -> None:
    file = write_page(facts(), tmp_path / "sweep.html")
    page.show(file.as_uri(), width=width, scheme=scheme)
    sent = [s["request"]["url"] for s in page.named("Network.requestWillBeSent")]
    assert [url for url in sent if not url.startswith("data:")] == [file.as_uri()]
    assert page.named("Runtime.exceptionThrown") == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('h1').textContent").startswith("Trial 2 is better")
    assert page.run("document.querySelectorAll('#ranking tbody tr').length") == 5
    assert page.run("document.querySelectorAll('svg[role=img][aria-label]').length") == 3
    # whatever may scroll can be reached with the keyboard
    assert page.run("[...document.querySelectorAll('.scroll')].every(s => s.tabIndex === 0)")
    # lines take their colours from the page, which differ by scheme
    ink = page.run("getComputedStyle(document.body).color")
    assert ink == ("rgb(22, 24, 29)" if scheme == "light" else "rgb(232, 234, 240)")
    drawn = page.run("getComputedStyle(document.querySelector('#parallel svg path')).stroke")
    assert drawn and "var(" not in drawn
