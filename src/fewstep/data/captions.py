"""Captions: several to a picture, a trigger word, and fuller prompts beside them."""

from __future__ import annotations

import re
from pathlib import Path

PLACE = re.compile(r"\[trigger\]", re.IGNORECASE)
"""Where a caption wants the trigger word."""


class CaptionError(ValueError):
    """Captions that cannot be used; the message is why, as a clause."""


def read_captions(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not empty; CaptionError where it is no text."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CaptionError(f"{path.name} is not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise CaptionError(f"{path.name} cannot be read ({error.strerror})") from None
    return tuple(line.strip() for line in lines if line.strip())


def triggered(caption: str, trigger: str | None) -> str:
    """The caption with the trigger word for [trigger], or in front where it has neither.

    CaptionError where there is a [trigger] and no word for it.
    """
    if trigger is None:
        if place := PLACE.search(caption):
            raise CaptionError(
                f"a caption holds {place[0]}, but no trigger word is set (data.folder.trigger)"
            )
        return caption
    if PLACE.search(caption):
        return PLACE.sub(lambda _: trigger, caption)
    if re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption):
        return caption
    return f"{trigger}, {caption}"


def paired(enhanced: tuple[str, ...], captions: tuple[str, ...]) -> tuple[str, ...]:
    """A fuller prompt for each caption: line by line, or one for all. CaptionError otherwise."""
    if len(enhanced) == 1:
        return enhanced * len(captions)
    if len(enhanced) != len(captions):
        raise CaptionError(
            f"there are {len(captions)} captions but {len(enhanced)} enhanced prompts: give one "
            "for each, or one for all"
        )
    return enhanced
