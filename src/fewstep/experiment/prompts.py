"""Which prompts are trained on, previewed and evaluated: those of the world, or lines of a file.

A file has one list. Training reads it from the start, everything else from its end.
"""

from __future__ import annotations

from textwrap import shorten

from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.families.text import length
from fewstep.families.zimage import ZImage
from fewstep.runs import user_path
from fewstep.worlds.base import World

SHOWN = 8
"""Lines of a file that a message names."""


def training_prompts(experiment: Experiment, world: World | None) -> list[str]:
    """One for each teacher sample; UserError for a file that cannot give them."""
    n = experiment.data.samples.prompts
    lines = lines_of(experiment, world, n, "data.samples.prompts")
    return world_prompts(world, "train", n) if lines is None else lines[:n]


def preview_prompts(experiment: Experiment, world: World | None) -> list[str]:
    """Of the pictures drawn while training. A short file may have some of them in training too."""
    n = experiment.sampling.prompts
    lines = lines_of(experiment, world, n, "sampling.prompts")
    return world_prompts(world, "val", n) if lines is None else lines[-n:]


def watched_prompts(experiment: Experiment, world: World | None) -> list[str]:
    """Of the pictures by which a run's health is seen: as those of the preview, and as many as a
    file has where that is fewer."""
    n = experiment.watch.prompts
    lines = lines_of(experiment, world, 1, "watch.prompts")
    found = world_prompts(world, "val", n) if lines is None else lines[-n:]
    return list(dict.fromkeys(found))


def evaluation_prompts(experiment: Experiment, world: World | None) -> list[str]:
    """Different prompts, none of them trained on; UserError for a file too short for that."""
    n = experiment.eval.prompts
    trained = experiment.data.samples.prompts if trains_on_prompts(experiment) else 0
    lines = lines_of(experiment, world, n, "eval.prompts")
    if lines is None:
        return list(dict.fromkeys(world_prompts(world, experiment.eval.split, n)))
    if trained + n > len(lines):
        raise UserError(
            f"the prompt {lines[-n]!r} would be both trained on and evaluated: the prompts file "
            f"{experiment.data.prompts_file} has {len(lines)} different prompts, of which training "
            f"takes the first {trained} and eval the last {n}; lower eval.prompts or "
            "data.samples.prompts, or add prompts"
        )
    return lines[-n:]


def check_prompts(experiment: Experiment, world: World | None) -> None:
    """UserError for a file that cannot serve all of them; a world always can."""
    if experiment.data.prompts_file is not None:
        if trains_on_prompts(experiment):
            training_prompts(experiment, world)
        preview_prompts(experiment, world)
        if world is not None:  # which alone can judge
            evaluation_prompts(experiment, world)


def cut_off(experiment: Experiment, world: World | None, family: ZImage) -> list[str]:
    """A line for each prompt of a file that is trained on and too long for the model to read, of
    which the rest is trained on like any other."""
    if experiment.data.prompts_file is None or not trains_on_prompts(experiment):
        return []
    found = [
        f"of the {n} tokens of the prompt {shorten(text, 60)!r} the model reads {family.longest}"
        for n, text in too_long(experiment, world, family)
    ]
    more = len(found) - SHOWN
    return found if more <= 0 else [*found[:SHOWN], f"and {more} more prompts are too long"]


def too_long(experiment: Experiment, world: World | None, family: ZImage) -> list[tuple[int, str]]:
    """Prompts that are trained on and have more tokens than the model reads, with how many."""
    tokenizer = family.pipeline.tokenizer
    lengths = [(length(tokenizer, text), text) for text in training_prompts(experiment, world)]
    return [(n, text) for n, text in lengths if n > family.longest]


def is_text(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def trains_on_prompts(experiment: Experiment) -> bool:
    """Whether training or its prior reads prompts, and not only captions of pictures."""
    return experiment.data.reads("samples") or experiment.data.reads("prompts")


def world_prompts(world: World | None, split: str, n: int) -> list[str]:
    assert world is not None  # Experiment checks that there is a file otherwise
    return world.prompts(split, n)


def lines_of(experiment: Experiment, world: World | None, n: int, key: str) -> list[str] | None:
    """The different prompts of the file, at least n (`key` asks for them); None without a file."""
    file = experiment.data.prompts_file
    return None if file is None else read_lines(file, n, key, "data.prompts_file", world)


def read_lines(file: str, n: int, key: str, file_key: str, world: World | None) -> list[str]:
    """The different prompts of a file, one a line; UserError where there are not n (`key` asks for
    so many) or where the world cannot read one."""
    path = user_path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{file_key}: the prompts file {path} cannot be read: {error}") from None
    if bad := [i for i, line in enumerate(data.splitlines(), 1) if not is_text(line)]:
        shown = ", ".join(map(str, bad[:SHOWN])) + (" ..." if len(bad) > SHOWN else "")
        raise UserError(
            f"{file_key}: {len(bad)} lines of the prompts file {path} are not UTF-8 (line "
            f"{shown}); `fewstep prompts {path}` makes lists of the good ones"
        )
    lines = data.decode("utf-8-sig").splitlines()
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(prompts) < n:
        raise UserError(
            f"the prompts file {path} has {len(prompts)} different prompts, but {n} are asked for; "
            f"lower {key} or add prompts"
        )
    if world is not None:
        try:
            world.check(prompts)
        except ValueError as error:
            raise UserError(
                f"the prompts file {path}: {error}; write prompts of that world, or set world to "
                "none"
            ) from None
    return prompts
