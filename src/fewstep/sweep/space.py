"""What a sweep varies: ranges and choices for fields of the recipe, checked against their types.

optim.student.lr=1e-5..1e-3:log     a range, tried on a logarithmic scale
method.student_every=1..4           whole numbers, for the field holds one
method.loss=hinge,softplus          a choice
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from fewstep.errors import UserError
from fewstep.experiment.codec import changed, decode, flat, suggestion, to_dict
from fewstep.experiment.config import Experiment

Value = float | int | bool | str | None
Change = Mapping[str, Value]
"""Values by dotted field, on top of the recipe."""

FIXED = ("seed", "world", "device", "data.prompts_file", "eval.", "sharding.")
"""Fields (those that end in a dot with all under them) that decide what trials are held against, or
that nothing hangs on."""
TRIED = 256
"""Combinations at most that are built to see whether a refused value is refused in all of them."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Both ends belong to it."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Choice:
    values: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.values

    def holds(self, value: Value) -> bool:
        return any(value == own and type(value) is type(own) for own in self.values)


Space = Mapping[str, Range | Choice]


def read_space(words: Sequence[str], base: Experiment) -> Space:
    """UserError for a field that is unknown, named twice or not to be varied, a value of the wrong
    type, and one that the recipe refuses in whatever combination."""
    space: dict[str, Range | Choice] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not text:
            raise UserError(f"--vary takes FIELD=LOW..HIGH or FIELD=A,B,..., got {word!r}")
        if key in space:
            raise UserError(f"--vary names {key} twice")
        check_key(key, base)
        space[key] = read_values(key, text, field_type(base, key))
    check_values(space, base)
    return space


def check_key(key: str, base: Experiment) -> None:
    """UserError unless the recipe has such a field, and a sweep may vary it."""
    known = flat(to_dict(base))
    if key not in known:
        raise UserError(f"--vary: an experiment has no field {key!r}; {suggestion(key, known)}")
    if any(key == name or (name.endswith(".") and key.startswith(name)) for name in FIXED):
        raise UserError(f"--vary: {key} is the same for all trials, which are held against one "
                        "another")  # fmt: skip


def field_type(base: Experiment, key: str) -> Any:
    """The annotation of a field that is there."""
    *path, name = key.split(".")
    node: Any = base
    for part in path:
        node = getattr(node, part)
    return get_type_hints(type(node))[name]


def read_values(key: str, text: str, kind: Any) -> Range | Choice:
    where = "--vary"
    if ".." in text:
        return read_range(key, text, number_type(key, text, kind))
    nothing = ("none",) if type(None) in get_args(kind) else ()  # as the command line spells it
    values = tuple(
        None if v in nothing else decode(kind, yaml.safe_load(v), where, key)
        for v in text.split(",")
    )
    if any(isinstance(v, tuple) or is_dataclass(v) for v in values):
        raise UserError(f"{where}: {key} holds several values; vary a field that holds one")
    if len(values) < 2 or len(set(map(repr, values))) < len(values):
        raise UserError(f"{where}: {key} needs at least two different values, got {text!r}")
    return Choice(values=values)


def number_type(key: str, text: str, kind: Any) -> type:
    """int or float; UserError for a field that holds no number."""
    kinds = [kind]
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [own for own in get_args(kind) if own is not type(None)]
    if kinds not in ([int], [float]):
        raise UserError(f"--vary: {key} holds no number, so {text!r} is no range of it; name its "
                        "values as A,B,...")  # fmt: skip
    return kinds[0]


def read_range(key: str, text: str, kind: type) -> Range:
    ends, _, scale = text.partition(":")
    if scale not in ("", "log") or text.endswith(":"):
        raise UserError(f"--vary: {key}={text}: after a range comes :log or nothing")
    low, high = (
        decode(kind, yaml.safe_load(end) if end else None, "--vary", key)
        for end in ends.split("..", 1)
    )
    if not low < high:
        raise UserError(f"--vary: {key} needs a range LOW..HIGH with LOW < HIGH, got {text!r}")
    if scale and low <= 0:
        raise UserError(f"--vary: {key} cannot be tried on a logarithmic scale from {low}: it "
                        "needs LOW > 0")  # fmt: skip
    return Range(low=low, high=high, log=bool(scale), whole=kind is int)


def check_values(space: Space, base: Experiment) -> None:
    """UserError for an end of a range or a choice that no combination with the ends of the others
    makes the recipe take. A combination that is refused is a failed trial, and no mistake."""
    for key, own in space.items():
        for value in own.ends:
            refused = why_refused(base, {key: value})
            if refused and all(why_refused(base, c) for c in combinations(space, key, value)):
                raise UserError(f"--vary {key}: {value} is never taken: {refused}")


def why_refused(base: Experiment, change: Change) -> str | None:
    try:
        changed(base, change)
    except UserError as error:
        return str(error).removeprefix("the overrides: ")
    return None


def combinations(space: Space, key: str, value: Value) -> Iterator[Change]:
    """This value with all ends of the other fields, as many as there is patience for."""
    others = [k for k in space if k != key]
    for values in itertools.islice(itertools.product(*(space[k].ends for k in others)), TRIED):
        yield {key: value, **dict(zip(others, values, strict=True))}


def written(own: Range | Choice) -> str:
    """As `read_values` reads it."""
    match own:
        case Range():
            return f"{own.low}..{own.high}{':log' if own.log else ''}"
        case Choice():
            return ",".join(shown(value) for value in own.values)


def shown(value: Value) -> str:
    """A value as YAML has it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)
