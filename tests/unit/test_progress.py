"""Progress lines where there is no terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from fewstep.train.progress import ProgressLines, duration


def test_each_job_has_a_line_of_its_own_name() -> None:
    said = StringIO()
    with ProgressLines(Console(file=said)) as tell:
        for done in (1, 2):
            tell("encoding pictures", done, 2)
        tell("encoding prompts", 64, 67)
        tell("encoding prompts", 67, 67)
    assert said.getvalue().splitlines() == [
        "encoding pictures 2/2, 0 s left", "encoding prompts 67/67, 0 s left"
    ]  # fmt: skip


def test_a_live_line_is_left_whole() -> None:
    said = StringIO()
    with ProgressLines(Console(file=said, force_terminal=True, width=100)) as tell:
        tell("first", 3, 3)
        tell("second", 1, 2)
    text = said.getvalue()
    assert text.index("first") < text.index("second") and "3/3" in text and "1/2" in text


def test_durations() -> None:
    assert [duration(s) for s in (9.6, 75, 3725)] == ["10 s", "1 min 15 s", "1 h 02 min"]
