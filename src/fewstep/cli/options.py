"""Options from dataclasses by tyro, with its complaints as one sentence."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from fewstep.errors import UserError
from fewstep.experiment.codec import flat, suggestion, to_dict

T = TypeVar("T")
FLAT = (tyro.conf.AvoidSubcommands,)
"""A field that may hold one of several dataclasses keeps the one that is there."""
RULES = ConstructorRegistry()
FRAME = " ─│╭╮╰╯├┤"
FOOTERS = ("Argument helptext", "For full helptext", "See --help")


@RULES.primitive_rule
def none_as_written(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[None] | None:
    """As configurations and messages spell it: tyro alone knows "None", and would take "none" for
    a name where a field may hold one."""
    if info.type is not type(None):
        return None

    def read(words: list[str]) -> None:
        if words[0] not in ("none", "None"):
            raise ValueError(f"{words[0]!r} is not none")

    return PrimitiveConstructorSpec(
        nargs=1, metavar="none", instance_from_str=read, is_instance=lambda x: x is None,
        str_from_instance=lambda _: ["none"],
    )  # fmt: skip


def changed(default: T, words: Sequence[str], prog: str) -> T:
    """The default with the values that options like --loop.steps 3 give."""
    found, unknown = parse(type(default), words, prog, default=default)
    if unknown:
        field = unknown[0].lstrip("-").split("=")[0].replace("-", "_")
        near = suggestion(field, flat(to_dict(default)))
        raise UserError(f"unknown option {unknown[0]!r}; {near}")
    return found


def asked(kind: type[T], words: Sequence[str], prog: str) -> T:
    """A dataclass whose fields without a default must be given."""
    found, unknown = parse(kind, words, prog)
    if unknown:
        raise UserError(f"unknown option {unknown[0]!r}; see `{prog} --help`")
    return found


def print_help(kind: type, prog: str, description: str, default: Any = None) -> None:
    """All options of a dataclass, by section, with the values of `default`."""
    more: dict[str, Any] = {} if default is None else {"default": default}
    with suppress(SystemExit):
        tyro.cli(
            kind, args=["--help"], prog=prog, description=description, config=FLAT, registry=RULES,
            **more,
        )  # fmt: skip


def parse(kind: type[T], words: Sequence[str], prog: str, **more: Any) -> tuple[T, list[str]]:
    """The dataclass, and the words that are none of its options."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                kind, args=words, prog=prog, return_unknown_args=True, config=FLAT,
                registry=RULES, **more,
            )  # fmt: skip
    except SystemExit:
        raise UserError(sentence(said.getvalue())) from None


def sentence(box: str) -> str:
    """The text in tyro's framed message, without its title and its hints."""
    lines = [line.strip(FRAME) for line in box.splitlines()]
    lines = [line for line in lines if line.strip("-")][1:]
    end = next((i for i, line in enumerate(lines) if line.startswith(FOOTERS)), len(lines))
    return " ".join(lines[:end]) or "the options cannot be read"
