"""The page: complete, self-contained, readable by all, small enough, and free of torch."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.report.demo_run import (
    COMMAND,
    FEW,
    FULL,
    NOTES,
    PROMPTS,
    STUDENT,
    Invented,
    demo_evaluation,
    demo_run,
)
from tests.unit.report.invented import METRICS, A, B, evaluation
from tests.unit.report.outline import Outline

from fewstep.report.collect import collect
from fewstep.report.page import by_prompt, factor, measured, spaced, write_report
from fewstep.report.results import Number, Picture
from fewstep.runs import RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_page_holds_what_the_run_holds(html: str) -> None:
    plain = re.sub(r"<[^>]+>", "", html.replace("\u00a0", " "))
    for expected in (
        "Does the 4-step student draw like its 30-step teacher?", FULL, FEW, STUDENT, COMMAND,
        *PROMPTS[:2], *NOTES, "fewstep eval runs/demo", "85.4 %", "82.2 to 88.1", "goal is 80 %",
        "128 prompts \u00d7 4 seeds", "student_every: 2", "step 0", "step 200", "step 400",
        "Losses", "Gradient norms", "Fake accuracy by sigma", "Gap by head", "0123456789abcdef",
        "1, 0.9, 0.75, 0.5, 0", "versions.numpy", "More curves (3)", "dead: below 0.02",
        "healthy: 0.02 to 1", "heads win: above 1.4", "Retention over steps", "strength 0",
        "30\u2009720", "810 MB", "seeds 0 to 15", "Kinds of prompts", "Collapse",
        "Steepness of edges relative to the truth.",
    ):  # fmt: skip
        assert expected in plain, expected
    assert html.count("data:image/png;base64,") == 1 + 6 + 3
    assert html.count("<svg") == 2 + 7 + 3  # trade-offs, shown, more


def test_the_first_screen_says_whether_it_worked_how_sure_and_at_what_cost(html: str) -> None:
    before, _, _ = html.replace("\u00a0", " ").partition('<section id="pictures"')
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", before.partition("</style>")[2]))
    for expected in (
        "In part: KID goal reached, adherence and layout diversity worse",
        "95 % interval 82.2 to 88.1", "adherence \u22121.9 points (\u22123.5 to \u22120.4)",
        "one training run", "128 prompts \u00d7 4 seeds", "95 % intervals over prompts",
        "Adherence 93.8 % 95 %: 91.7 to 95.9", "Model calls a picture 4 instead of 60",
        "399 steps",
    ):  # fmt: skip
        assert expected in plain, expected


def test_headings_pictures_and_tables_can_be_read_aloud(html: str) -> None:
    outline = Outline(html)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    pictures = [values for values in outline.all("img") if values.get("src")]
    assert all(values["alt"] for values in pictures)
    assert pictures[0]["alt"] == "Teacher at full steps, teacher at 4 steps, student at 4 steps."
    assert all(values["aria-label"] for values in outline.all("svg"))
    assert all(values.get("scope") in ("col", "row") for values in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table")) > 6
    assert all(values["aria-labelledby"] in outline.ids for values in outline.all("dialog"))


def test_a_run_that_only_began_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "loss": 2.0}\n')
    page = write_report(tmp_path, path=tmp_path / "elsewhere.html").read_text()
    assert "Not measured yet" in page and "Losses" in page
    assert 'style="fill: var(--k0)"' in page  # the one value is a dot


def test_an_evaluation_without_a_run_has_a_report(tmp_path: Path) -> None:
    page = write_report(demo_evaluation(tmp_path / "quick", Invented())).read_text()
    assert "85.4" in page and "Learning rate" not in page and "Whole configuration" not in page
    assert 'id="training"' not in page and "#training" not in page


def test_several_runs_need_a_file_and_say_whose_everything_is(run: Path, tmp_path: Path) -> None:
    other = demo_run(tmp_path / "other", Invented(seed=1, lr=3e-4, closed=0.41))
    with pytest.raises(RunError, match="a report of 2 runs belongs into none of them"):
        write_report(run, other)
    page = write_report(run, other, path=tmp_path / "both.html").read_text()
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("\u00a0", " ")))
    assert "Compared: demo and other." in plain
    assert plain.count("Model calls a picture: 4, instead of 60") == 2  # a card for each run
    assert "students do not draw in one way" not in plain
    assert (
        f"{STUDENT} demo" in plain and f"{STUDENT} other" in plain and f"{FULL} demo" not in plain
    )
    assert "optim.student.lr 0.0001 0.0003" in plain
    assert "What differs from demo; everything else is the same." in plain
    assert "not paired" not in plain
    # a colour for each run: both are in the one plot of the gap
    gap = next(part for part in page.split('<div class="card">') if "<h3>Heads: gap</h3>" in part)
    assert gap.count("stroke: var(--k0)") == 1 == gap.count("stroke: var(--k1)")
    assert "var(--k2)" not in gap


def test_numbers_on_other_prompts_or_seeds_are_called_unpaired(run: Path, tmp_path: Path) -> None:
    other = demo_evaluation(tmp_path / "other", Invented(seed=1, seeds=(0, 1)))
    page = write_report(run, other, path=tmp_path / "seeds.html").read_text()
    warning = page.index("The numbers are not paired.")
    assert "other has other seeds than demo." in page
    assert warning < page.index("<nav")  # beside the verdict, before any number
    assert "other prompts than" not in page


def test_a_typical_page_is_small_and_a_large_one_is_packed_without_loss(
    run: Path, tmp_path: Path
) -> None:
    assert write_report(run).stat().st_size < 1_000_000
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 2, (2, 300, 300, 3), dtype=np.uint8) * 255
    heavy = demo_evaluation(tmp_path / "heavy", Invented())
    for tile, name in zip(tiles, ("grids/fixed.png", "sheets/0_teacher_0.png"), strict=True):
        large = tile.repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(large).save(heavy / name, compress_level=0)
    assert sum(file.stat().st_size for file in heavy.rglob("*.png")) > 8_000_000
    assert write_report(heavy).stat().st_size < 5_000_000


def test_report_imports_no_torch_and_no_windows(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fewstep.report.page import write_report; "
        f"write_report(Path({str(run)!r}), path=Path({str(tmp_path / 'r.html')!r})); "
        "bad = {'torch', 'diffusers', 'transformers', 'matplotlib.pyplot'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert (tmp_path / "r.html").stat().st_size > 100_000


def test_what_was_repeated_is_told_of_numbers_that_stand_on_all_prompts() -> None:
    kinds = {**METRICS, "adherence_size": METRICS["adherence"]}
    few = Number(0.9, 0.8, 1.0, 23, 4, 1)
    own = replace(A, metrics={**A.metrics, "adherence_size": few})
    assert measured(evaluation(own, B, metrics=kinds)) == [*A.metrics.values(), *B.metrics.values()]
    assert measured(evaluation(replace(A, metrics={}))) == []


def test_pictures_are_enlarged_by_whole_factors() -> None:
    assert [factor(width) for width in (64, 512, 550, 551, 5000)] == [4, 2, 2, 1, 1]


def test_strips_are_spaced_with_the_first_and_the_last() -> None:
    strips = [Picture(path=Path(str(i)), caption=str(i)) for i in range(20)]
    found = [int(strip.caption) for strip in spaced(strips, 8)]
    assert found[0] == 0 and found[-1] == 19 and len(set(found)) == 8
    assert set(np.diff(found)) == {2, 3}
    assert spaced(strips[:3], 8) == strips[:3]


def test_sheets_of_a_prompt_stand_together(run: Path) -> None:
    sheets = collect(run).evaluation.sheets
    shuffled = [*sheets[3:], *sheets[:3], sheets[3]]
    found = by_prompt(shuffled)
    assert list(found) == [PROMPTS[1], PROMPTS[0]]
    assert [len(own) for own in found.values()] == [4, 3]
