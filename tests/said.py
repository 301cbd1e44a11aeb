"""What a command said."""

from __future__ import annotations

import pytest


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr: one line."""
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said
