"""Prompts for kinds that have too few: from the taxonomy's phrases, or from a command."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from fewstep.curation.strata import Stratum, draw
from fewstep.curation.taxonomy import OTHER, Taxonomy
from fewstep.errors import UserError

TIMEOUT = 600
"""Seconds a command may take for one stratum."""


def wanting(available: Mapping[Stratum, int], taxonomy: Taxonomy, floor: int) -> dict[Stratum, int]:
    """How many prompts each stratum lacks, of all combinations of labels but "other"."""
    lacking = {
        stratum: floor - available.get(stratum, 0) for stratum in product(*taxonomy.axes.values())
    }
    return {stratum: n for stratum, n in lacking.items() if n > 0}


def from_phrases(taxonomy: Taxonomy, stratum: Stratum, seed: int) -> Iterator[str]:
    """Every way to say a stratum by the taxonomy's phrases, in an order of its own; of the three
    axes subject, style and camera "STYLE of SUBJECT, CAMERA"."""
    axes = list(taxonomy.axes)
    phrases = [taxonomy.phrases[axis, label] for axis, label in zip(axes, stratum, strict=True)]
    combined = [dict(zip(axes, words, strict=True)) for words in product(*phrases)]
    for words in sorted(combined, key=lambda words: draw(seed, json.dumps(words))):
        if set(axes) == {"subject", "style", "camera"}:
            yield f"{words['style']} of {words['subject']}, {words['camera']}"
        else:
            yield ", ".join(words.values())


def from_command(
    command: str, taxonomy: Taxonomy, stratum: Stratum, count: int, examples: Sequence[str]
) -> Iterator[str]:
    """What a command prints, a prompt on each line.

    On its standard input is JSON: {"count": 8, "want": {"subject": "food", ...}, "examples":
    [...]}. UserError where it fails or takes more than `TIMEOUT` seconds.
    """
    if not (words := shlex.split(command)):
        raise UserError("--fill.command is empty; leave it away to combine phrases")
    want = dict(zip(taxonomy.axes, stratum, strict=True))
    asked = json.dumps({"count": count, "want": want, "examples": list(examples)})
    try:
        done = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UserError(f"--fill.command {command!r} did not work: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise UserError(f"--fill.command {command!r} ended with {done.returncode}: {last}")
    yield from (line for line in done.stdout.splitlines() if line.strip())


def fits(taxonomy: Taxonomy, text: str, stratum: Stratum) -> bool:
    """Whether the rules see in a text by `clean.key` what it was made for."""
    found = taxonomy.classify(text)
    return OTHER not in stratum and tuple(found[axis].name for axis in taxonomy.axes) == stratum
