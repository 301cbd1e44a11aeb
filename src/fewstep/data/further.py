"""Further prompts of a concept: no picture shows what they ask for, and a teacher that reads one
beside a picture can draw it all the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.data.captions import CaptionError, read_captions, triggered
from fewstep.errors import UserError
from fewstep.runs import user_path

if TYPE_CHECKING:  # it calls this file
    from fewstep.data.folder import Picture


def file_of(root: Path, name: str) -> Path:
    """Where further prompts of the folder `root` are: in it, unless the name begins elsewhere."""
    return root / user_path(name)


def read_further(root: Path, name: str | None, trigger: str | None) -> tuple[str, ...]:
    """The different lines of the file, each with the trigger word as captions have it; none without
    a file. UserError where it is no text, holds no prompt, or has a place for a word that is not
    set."""
    if name is None:
        return ()
    named = f"data.folder.prompts is {name!r}"
    try:
        lines = read_captions(file_of(root, name))
    except CaptionError as error:
        raise UserError(
            f"{named}, but in {root} {error}: name a UTF-8 text file with one prompt a line, or "
            "set it to none"
        ) from None
    if not lines:
        raise UserError(f"{named}, which holds no prompt: write one a line, or set it to none")
    try:
        return tuple(dict.fromkeys(triggered(line, trigger) for line in lines))
    except CaptionError as error:
        raise UserError(f"{named}: {error}; set that, or write the prompts without") from None


def in_turn(prompts: tuple[str, ...], pictures: Iterable[Picture]) -> tuple[Picture, ...]:
    """The pictures with the prompts that are read beside each: prompt i beside picture i mod n."""
    rows = tuple(pictures)
    return tuple(replace(row, prompts=prompts[i :: len(rows)]) for i, row in enumerate(rows))
