"""Data before there is a model: a list of prompts, or a folder of pictures with captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fewstep.curation.clean import key
from fewstep.curation.read import Bad, Row, read
from fewstep.data.folder import Folder
from fewstep.doctor.base import Check, Finding, bad, doubtful, good, not_here
from fewstep.doctor.run import given_away

FEW_PICTURES = 4
CROPPED, ENLARGED = 0.25, 1.5
"""Share of a picture's area, and factor of its sides, beyond which it is not what was taken."""


@dataclass(frozen=True)
class Prompts:
    """The rows of prompt files, and a benchmark that must not be among them."""

    paths: Sequence[Path]
    against: Sequence[str] = ()

    @cached_property
    def rows(self) -> list[Row | Bad]:
        return list(read(self.paths))

    @cached_property
    def good(self) -> list[Row]:
        return [row for row in self.rows if isinstance(row, Row)]

    @cached_property
    def keys(self) -> list[str]:
        return [key(row.text) for row in self.good]


def readable(prompts: Prompts) -> Finding:
    """Whether every row is a prompt."""
    broken = [row for row in prompts.rows if isinstance(row, Bad)]
    n = len(prompts.good)
    if not n:
        return bad(f"none of {len(broken)} rows is a prompt", "name another file")
    if broken:
        first = broken[0]
        return doubtful(
            f"{len(broken)} of {n + len(broken)} rows cannot be used: {first.source}:{first.line}: "
            f"{first.why}", "`fewstep prompts FILE` leaves them out and says which",
        )  # fmt: skip
    return good(f"{n} prompts")


def repeated(prompts: Prompts) -> Finding:
    """Whether prompts stand there twice, but for case and punctuation."""
    counts = Counter(prompts.keys)
    more = sum(n - 1 for n in counts.values())
    if not more:
        return good("no prompt stands there twice")
    [(_, most)] = counts.most_common(1)
    first = prompts.good[prompts.keys.index(counts.most_common(1)[0][0])].text
    return doubtful(
        f"{more} of {len(prompts.keys)} prompts stand there before, {first[:80]!r} {most} times",
        "`fewstep prompts FILE` leaves one of each",
    )


def leaked(prompts: Prompts) -> Finding:
    """Whether a benchmark is among them."""
    if not prompts.against:
        return not_here("no benchmark was named (--against)")
    if (found := given_away([row.text for row in prompts.good], prompts.against)) is not None:
        return found
    return good(f"none of {len(prompts.against)} prompts of the benchmark among them")


def rows(folder: Folder) -> Finding:
    """Whether every file is a picture with a caption."""
    n = len(folder.pictures)
    if folder.left_out:
        first = folder.left_out[0]
        return doubtful(
            f"{n} pictures with captions, and files that are left out: {len(folder.left_out)}; "
            f"{first.file}: {first.fault}: {first.why}", "repair them, or take them away",
            left_out=[vars(remark) for remark in folder.left_out],
        )  # fmt: skip
    return good(f"{n} pictures with captions")


def enough(folder: Folder) -> Finding:
    n = len(folder.pictures)
    if n < FEW_PICTURES:
        return doubtful(f"{n} pictures", f"{FEW_PICTURES} or more show what is common to them")
    return good(f"{n} pictures")


def captions(folder: Folder) -> Finding:
    """Whether captions tell pictures apart."""
    texts = [text for picture in folder.pictures for text in picture.captions]
    if len(folder.pictures) > 1 and len(set(texts)) == 1:
        return doubtful(
            f"all pictures have one caption, {texts[0][:80]!r}",
            "say what differs between them, or that is learnt as part of the concept",
        )
    return good(f"{len(set(texts))} different captions of {len(folder.pictures)} pictures")


def sizes(folder: Folder) -> Finding:
    """Whether pictures come to their buckets nearly as they are."""
    cropped = [p for p in folder.pictures if p.fit.cropped > CROPPED]
    enlarged = [p for p in folder.pictures if p.fit.scale > ENLARGED]
    if cropped or enlarged:
        worst = max([*cropped, *enlarged], key=lambda p: max(p.fit.cropped, p.fit.scale - 1))
        return doubtful(
            f"{len(cropped)} pictures lose more than {CROPPED:.0%} of their area and "
            f"{len(enlarged)} are enlarged more than {ENLARGED:g} times: {worst.file} is "
            f"{worst.width} x {worst.height}",
            "crop them yourself, take larger ones, or lower --size",
        )
    return good(f"at most {max(p.fit.cropped for p in folder.pictures):.0%} cropped")


def remarks(folder: Folder) -> Finding:
    """What reading pictures and captions has remarked."""
    if folder.warnings:
        return doubtful(f"{len(folder.warnings)} remarks: {folder.warnings[0]}", "look at them",
                        warnings=list(folder.warnings))  # fmt: skip
    return good("nothing to remark")


PROMPT_CHECKS: tuple[Check[Prompts], ...] = (
    Check(name="rows", asks="Is every row a prompt?", look=readable),
    Check(name="repeated", asks="Do prompts stand there twice?", look=repeated, needs=("rows",)),
    Check(name="leaks", asks="Is a benchmark among them?", look=leaked, needs=("rows",)),
)
FOLDER_CHECKS: tuple[Check[Folder], ...] = (
    Check(name="rows", asks="Is every file a picture with a caption?", look=rows),
    Check(name="enough", asks="Are there enough pictures?", look=enough),
    Check(name="captions", asks="Do captions tell pictures apart?", look=captions),
    Check(name="sizes", asks="Do pictures come in nearly as they are?", look=sizes),
    Check(name="remarks", asks="Was there anything odd?", look=remarks),
)
