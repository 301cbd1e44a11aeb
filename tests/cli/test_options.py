"""How a value that may be absent is written on the command line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fewstep.cli.options import changed
from fewstep.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """May each be none."""

    file: str | None = "a.txt"
    count: int | None = 3


@pytest.mark.parametrize("word", ["none", "None"])
def test_none_is_no_name(word: str) -> None:
    found = changed(Options(), ["--file", word, "--count", word], "fewstep")
    assert found == Options(file=None, count=None)


def test_other_words_are_values() -> None:
    found = changed(Options(), ["--file", "none.txt", "--count", "4"], "fewstep")
    assert found == Options(file="none.txt", count=4)
    with pytest.raises(UserError, match="Error parsing --count"):
        changed(Options(), ["--count", "nothing"], "fewstep")
