"""How a long computation tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable

Told = Callable[[str, int, int], None]
"""Called with (what is being made, how many are done, how many in all), now and then."""


def quiet(what: str, done: int, total: int) -> None:
    """Says nothing."""
