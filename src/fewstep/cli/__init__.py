"""The command line: `app` reads it, `commands` does what it says."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code (`app.main`)."""
    try:
        from fewstep.cli import app  # seconds, in which nothing has begun that could be lost
    except KeyboardInterrupt:
        print("interrupted before anything began", file=sys.stderr)
        return INTERRUPTED
    return app.main(argv)
