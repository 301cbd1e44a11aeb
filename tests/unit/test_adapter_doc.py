"""Pages on adapters: their commands are read by the command line; docs/make_an_adapter.md: its sums
are right; all pages: links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fewstep.cli.app import parse_train
from fewstep.cli.options import asked
from fewstep.cli.verbs import EvalRequest, ReportRequest, SampleRequest
from fewstep.recipes import RECIPES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("make_an_adapter.md", "gate.md", "tune_a_style.md")]
COMMANDS = [
    line
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    for line in block.splitlines()
]
TEXT = PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one(command: str) -> None:
    program, verb, *words = shlex.split(command)
    assert program == "fewstep"
    match verb:
        case "train":
            assert words[0] in RECIPES and parse_train(words).experiment
        case "sample":
            request = asked(SampleRequest, words, "fewstep sample")
            assert request.adapter
            assert len(request.strengths) in (0, len(request.adapter))
        case "eval" if "--suite" in words:
            assert asked(EvalRequest, words, "fewstep eval").adapter is not None
        case "eval":
            assert len(words) == 1
        case "report":
            assert asked(ReportRequest, words, "fewstep report").runs
        case _:
            pytest.fail(verb)


def test_the_sums_of_memory() -> None:
    transformer, adapter = 6_154_908_736, 84_802_560
    parts = [2 * transformer, 2 * transformer, 4 * 5 * adapter]
    written = [float(cell) for cell in re.findall(r"\| ([\d.]+) \|$", TEXT, re.M)]
    assert written[:3] == [round(part / 1e9, 1) for part in parts]
    assert written[3] == pytest.approx(sum(parts) / 1e9, abs=0.1)
    a_pass = 2 * 4096 * 30 * (14 * 3840 + 4 * 10240) / 1e9
    assert "about 23 GB for each pass" in TEXT and round(a_pass) == 23
    assert "73 GB at 1024" in TEXT and sum(parts) / 1e9 + 2 * a_pass == pytest.approx(73, abs=2)
    assert "38 GB at 512" in TEXT and sum(parts) / 1e9 + a_pass / 2 == pytest.approx(38, abs=1)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for name in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / name).exists(), name
