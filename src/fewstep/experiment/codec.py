"""Frozen dataclasses to YAML and back, where every mistake is named by its dotted key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from fewstep.errors import UserError
from fewstep.experiment.config import Experiment


def to_dict(value: Any) -> Any:
    """Dataclasses as dicts and tuples as lists, all the way down."""
    if is_dataclass(value):
        return {f.name: to_dict(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [to_dict(v) for v in value]
    return value


def to_yaml(experiment: Experiment) -> str:
    """The whole experiment, defaults included."""
    return yaml.safe_dump(to_dict(experiment), sort_keys=False, allow_unicode=True)


def from_yaml(text: str, where: str = "the configuration") -> Experiment:
    """The inverse of `to_yaml`; missing keys take their defaults. UserError names what is wrong."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    return decode(Experiment, found, where, "")


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: v
        for name, inner in value.items()
        for key, v in flat(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def changed(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The experiment with other values at dotted fields; UserError names an unknown one, or says
    why a value is refused."""
    tree = to_dict(experiment)
    known = flat(tree)
    for key, value in values.items():
        if key not in known:
            raise UserError(f"an experiment has no field {key!r}; {suggestion(key, known)}")
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        node[name] = list(value) if isinstance(value, tuple) else value
    return decode(Experiment, tree, "the overrides", "")


def difference(old: Experiment, new: Experiment) -> list[str]:
    """One line for each value that differs."""
    a, b = flat(to_dict(old)), flat(to_dict(new))
    return [
        f"{key}: {a.get(key, 'nothing')} there, {b.get(key, 'nothing')} here"
        for key in {**a, **b}
        if a.get(key, MISSING) != b.get(key, MISSING)
    ]


def suggestion(name: str, known: Iterable[str]) -> str:
    """A closing clause: the nearest known name, or all of them."""
    known = sorted(known)
    if near := difflib.get_close_matches(name, known, 1, 0.5):
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}"


def decode(kind: Any, value: Any, where: str, key: str) -> Any:
    """`value`, as YAML gave it, as the annotated type `kind`."""
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return decode_dataclass(kind, value, where, key)
    if origin is Literal:
        if value in args:
            return value
        raise UserError(f"{where}: {key} is {value!r}; {suggestion(str(value), map(str, args))}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        kind = kinds[0] if len(kinds) == 1 else named(kinds, value, where, key)
        return decode(kind, value, where, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: {key} must be a list, got {value!r}")
        if args[1:] == (...,):
            args = (args[0],) * len(value)
        if len(args) != len(value):
            raise UserError(f"{where}: {key} must hold {len(args)} values, got {len(value)}")
        parts = zip(args, value, strict=True)
        return tuple(decode(a, v, where, f"{key}[{i}]") for i, (a, v) in enumerate(parts))
    return decode_scalar(kind, value, where, key)


def named(kinds: Sequence[type], value: Any, where: str, key: str) -> type:
    """The one of several dataclasses that the mapping's `name` says."""
    known = {kind.name: kind for kind in kinds}
    name = value.get("name") if isinstance(value, Mapping) else None
    if name not in known:
        raise UserError(f"{where}: {key}.name is {name!r}; {suggestion(str(name), known)}")
    return known[name]


def decode_scalar(kind: type, value: Any, where: str, key: str) -> Any:
    """bool, int, float or str, without conversions that lose anything."""
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            pass
    elif type(value) is kind:
        return value
    article = "an" if kind is int else "a"
    raise UserError(f"{where}: {key} must be {article} {kind.__name__}, got {value!r}")


def decode_dataclass(kind: Any, value: Any, where: str, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: {key or 'it'} must be a mapping of keys, got {value!r}")
    known = {f.name: f for f in fields(kind)}
    hints = get_type_hints(kind)
    for name in value:
        if name not in known:
            full = f"{key}.{name}".lstrip(".")
            raise UserError(f"{where}: unknown key {full!r}; {suggestion(str(name), known)}")
    for name, f in known.items():
        if name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{where}: the key {f'{key}.{name}'.lstrip('.')!r} is missing")
    given = {n: decode(hints[n], v, where, f"{key}.{n}".lstrip(".")) for n, v in value.items()}
    try:
        return kind(**given)
    except ValueError as error:
        # a part that stands in several places does not know its own
        within = f" in {key}:" if key else ""
        raise UserError(f"{where}:{within} {error}") from None
