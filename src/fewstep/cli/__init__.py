"""The command line: `app` reads it, `commands` does what it says."""

from fewstep.cli.app import main

__all__ = ["main"]
