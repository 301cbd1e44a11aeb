"""The report in a real browser: what is fetched, clicked, sorted, and how wide it comes out.

    python -m pytest tests/browser

Skipped where there is no Chromium.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from PIL import Image
from tests.browser.chromium import Page, chromium
from tests.unit.report.demo_run import Invented, demo_run

from fewstep.report.page import write_report
from fewstep.report.plots import COLOURS, COLOURS_DARK

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path"),
]

ADHERENCE = "document.querySelectorAll('table.sortable')[1]"
"""The table of adherence; its columns are the model, the whole, count, colour and shape."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of one run and of two."""
    root = tmp_path_factory.mktemp("runs")
    first = demo_run(root / "demo")
    second = demo_run(root / "another_run_with_a_long_name", Invented(seed=1, lr=3e-4, gap=0.005))
    both = write_report(first, second, path=root / "both.html")
    return {"one": write_report(first), "both": both}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(CHROMIUM or "", tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_it_opens_from_a_file_without_errors_and_fetches_nothing(
    page: Page, reports: dict[str, Path]
) -> None:
    for report in reports.values():
        page.show(report.as_uri())
        urls = [sent["request"]["url"] for sent in page.named("Network.requestWillBeSent")]
        files = [url for url in urls if not url.startswith("data:")]
        assert [unquote(urlparse(url).path) for url in files] == [str(report)]
        assert page.named("Runtime.exceptionThrown") == []
        assert page.named("Runtime.consoleAPICalled") == []
        assert page.named("Log.entryAdded") == []
        shown = page.run("[...document.querySelectorAll('.shot img')].map(i => i.naturalWidth)")
        assert len(shown) >= 10 and all(shown)


def test_a_request_and_an_error_would_be_seen(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<img src="other.png"><script>console.log(1); missing()</script>')
    page.show(path.as_uri())
    urls = [sent["request"]["url"] for sent in page.named("Network.requestWillBeSent")]
    assert any(url.endswith("other.png") for url in urls)
    assert page.named("Runtime.exceptionThrown") and page.named("Runtime.consoleAPICalled")


def test_no_script_runs_but_the_page_s_own(
    page: Page, reports: dict[str, Path], tmp_path: Path
) -> None:
    """As if a name had come into the page unescaped."""
    html = reports["one"].read_text(encoding="utf-8")
    bad = "<script>window.ran = 1</script><img src='data:,' onerror='window.ran = 1'>"
    path = tmp_path / "bad.html"
    path.write_text(html.replace("<main>", f"<main>{bad}"), encoding="utf-8")
    page.show(path.as_uri())
    assert page.run("window.ran") is None
    assert page.run("document.querySelectorAll('.zoom').length") >= 10  # the page's own has run


@pytest.mark.parametrize("by", ["mouse", "keyboard", "mouse without focus"])
def test_a_picture_is_enlarged_and_escape_closes_it(
    page: Page, reports: dict[str, Path], by: str
) -> None:
    page.show(reports["one"].as_uri())
    assert page.run("document.querySelector('dialog').open") is False
    if by == "mouse":
        page.click("#seeds .zoom")
    elif by == "keyboard":
        page.run("document.querySelector('#seeds .zoom').focus()")
        page.press("Enter", 13)
    else:  # as in Safari, where a click gives a button no focus
        page.run("document.querySelector('#seeds .zoom').click()")
    assert page.run("document.querySelector('dialog').open") is True
    large = page.run("(({src, width, naturalWidth, alt}) => [src.length, width, naturalWidth, alt])"
                     "(document.querySelector('dialog img'))")  # fmt: skip
    small = page.run("document.querySelector('#seeds img').src.length")
    length, width, natural, alt = large
    assert length == small and width == 2 * natural and "Teacher, 30 steps" in alt
    assert page.run("document.querySelector('#enlarged').textContent") == alt
    assert page.run("document.activeElement.closest('dialog') !== null")
    page.press("Escape", 27)
    assert page.run("document.querySelector('dialog').open") is False
    # the browser tells of the closing in its own time
    page.until("document.activeElement === document.querySelector('#seeds .zoom')")


def column(page: Page, cell: int) -> list[str]:
    return page.run(
        f"[...{ADHERENCE}.tBodies[0].rows].map(row => row.cells[{cell}].firstChild.textContent)"
    )


def test_a_click_on_a_head_sorts_by_value_and_a_second_turns_it(
    page: Page, reports: dict[str, Path]
) -> None:
    page.show(reports["one"].as_uri())
    before = column(page, 1)
    assert before == ["97.9 %", "95.7 %", "72.0 %", "93.8 %"]
    # a value that sorts otherwise as text, and one that is missing
    page.run(f"{{const cell = {ADHERENCE}.tBodies[0].rows[2].cells[1];"
             "cell.dataset.value = '5e-05'; cell.firstChild.textContent = '0.0 %';"
             f"const none = {ADHERENCE}.tBodies[0].rows[0].cells[1];"
             "delete none.dataset.value; none.firstChild.textContent = 'n/a'}")  # fmt: skip
    page.run(f"{ADHERENCE}.id = 'sorted'")
    head = "#sorted thead th:nth-child(2)"
    page.click(f"{head} button")
    assert column(page, 1) == ["0.0 %", "93.8 %", "95.7 %", "n/a"]
    assert page.run(f"document.querySelector('{head}').ariaSort") == "ascending"
    page.click(f"{head} button")
    assert column(page, 1) == ["95.7 %", "93.8 %", "0.0 %", "n/a"]
    assert page.run(f"document.querySelector('{head}').ariaSort") == "descending"
    # another head, from the keyboard: text, and the first is no longer the sorted one
    page.run("document.querySelector('#sorted thead th button').focus()")
    page.press("Enter", 13)
    rows = page.run("document.querySelector('#sorted').tBodies[0].innerText").splitlines()
    models = [row.replace("\u00a0", " ").strip() for row in rows if row.startswith(("T", "S"))]
    assert [model.partition("\t")[0] for model in models] == [
        "Student, 4 steps, w = 1", "Teacher, 30 steps, w = 2", "Teacher, 4 steps, w = 1",
        "True pictures",
    ]  # fmt: skip
    assert page.run(f"document.querySelector('{head}').hasAttribute('aria-sort')") is False


def test_without_scripts_everything_is_there(page: Page, reports: dict[str, Path]) -> None:
    page.show(reports["one"].as_uri(), scripts=False)
    try:
        document = page.send("DOM.getDocument", depth=0)["root"]["nodeId"]
        counts = {
            selector: len(
                page.send("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"]
            )
            for selector in (".zoom", "thead button", ".shot img", "tbody tr")
        }
    finally:
        page.send("Emulation.setScriptExecutionDisabled", value=False)
    assert counts[".zoom"] == counts["thead button"] == 0
    assert counts[".shot img"] == 10 and counts["tbody tr"] > 20


@pytest.mark.parametrize("name", ["one", "both"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_desktop_in_both_schemes(
    page: Page, reports: dict[str, Path], tmp_path: Path, width: int, scheme: str, name: str
) -> None:
    page.show(reports[name].as_uri(), width=width, scheme=scheme)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    shot = page.screenshot(tmp_path / f"{name}_{width}_{scheme}.png")
    with Image.open(shot) as image:
        assert image.width == width and image.height > 3000
        paper = np.asarray(image.convert("L"))[5, 5]
    assert paper < 40 if scheme == "dark" else paper > 215


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_plots_have_the_font_and_the_colours_of_the_page_and_stay_in_their_cards(
    page: Page, reports: dict[str, Path], width: int, scheme: str
) -> None:
    page.show(reports["both"].as_uri(), width=width, scheme=scheme)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    fonts = page.run("[...document.querySelectorAll('svg text, body')]"
                     ".map(e => getComputedStyle(e).fontFamily)")  # fmt: skip
    assert len(fonts) > 100 and len(set(fonts)) == 1
    colours = page.run("[0, 1].map(i => getComputedStyle([...document.querySelectorAll('svg path')]"
                       ".find(p => p.style.stroke === `var(--k${i})`)).stroke)")  # fmt: skip
    own = COLOURS if scheme == "light" else COLOURS_DARK
    assert colours == [f"rgb{tuple(bytes.fromhex(colour[1:]))}" for colour in own[:2]]
    # a colour that the browser does not understand fills in black
    black = page.run("[...document.querySelectorAll('svg :is(path, use, text)')].filter(e => "
                     "[getComputedStyle(e).fill, getComputedStyle(e).stroke]"
                     ".includes('rgb(0, 0, 0)') && !e.closest('defs')).length")  # fmt: skip
    assert black == 0
    beyond = page.run(
        "[...document.querySelectorAll('svg :is(path, use, text)')].filter(e => {"
        "if (e.closest('defs')) return false;"
        "const own = e.getBoundingClientRect(), card = e.closest('.card, details')"
        ".getBoundingClientRect(), svg = e.closest('svg').getBoundingClientRect();"
        "return own.left < card.left + 4 || own.right > card.right - 4"
        " || own.top < svg.top - 2 || own.bottom > svg.bottom + 3}).map(e => e.outerHTML)"
    )
    assert beyond == []


def test_no_card_of_five_stands_alone_beside_an_empty_place(
    page: Page, reports: dict[str, Path]
) -> None:
    page.show(reports["one"].as_uri(), width=1280)
    rows = page.run("(() => { const rows = {}; for (const card of"
                    " document.querySelectorAll('.cards > .card')) { const {top, left, right} ="
                    " card.getBoundingClientRect(); (rows[top] ??= []).push([left, right]) }"
                    " return Object.values(rows) })()")  # fmt: skip
    assert [len(row) for row in rows] == [1, 2, 2]
    assert len({(row[0][0], row[-1][1]) for row in rows}) == 1  # all as wide as the page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_it_is_dark_on_white_and_no_wider_than_the_sheet(
    page: Page, reports: dict[str, Path], scheme: str
) -> None:
    page.show(reports["both"].as_uri(), width=718, scheme=scheme)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.send("Emulation.setEmulatedMedia", media="print", features=media)
    try:
        assert page.run("document.documentElement.scrollWidth") <= 718
        assert page.run("Math.max(...[...document.querySelectorAll('table')]"
                        ".map(t => t.getBoundingClientRect().right))") <= 718  # fmt: skip
        card = page.run("(({backgroundColor, color}) => [backgroundColor, color])"
                        "(getComputedStyle(document.querySelector('.card')))")  # fmt: skip
        assert card == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        line = page.run("getComputedStyle(document.documentElement).getPropertyValue('--k0')")
        assert line.strip() == COLOURS[0]
    finally:
        page.send("Emulation.setEmulatedMedia", media="")


def test_pixels_stay_square_and_seeds_of_a_prompt_line_up(
    page: Page, reports: dict[str, Path]
) -> None:
    for width in (390, 1280):
        page.show(reports["one"].as_uri(), width=width)
        factors = page.run(
            "[...document.querySelectorAll('.shot img')]"
            ".map(i => i.getBoundingClientRect().width / i.naturalWidth)"
        )
        assert all(abs(factor - round(factor)) < 1e-6 and factor >= 1 for factor in factors)
        lefts = page.run("[...document.querySelector('.lined').querySelectorAll('img')]"
                         ".map(i => i.getBoundingClientRect().left)")  # fmt: skip
        assert len(lefts) == 3 and lefts[0] == lefts[2] and (width > 390) == (lefts[1] > lefts[0])
