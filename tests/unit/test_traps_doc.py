"""The list of traps names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_named_in_the_list_of_traps_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/traps.md").read_text()))
    sources = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
    assert len(named) > 40
    assert named <= defined, f"named but not defined: {sorted(named - defined)}"
