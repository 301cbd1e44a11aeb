"""Model directories: found or fetched, and checked part by part. Everything wrong is a UserError.

Only safetensors are read. Every weight that the config of a part asks for must be in its files, and
every weight in its files must be asked for: the libraries fill gaps with random numbers or leave
them empty, and say so in a log line only.
"""

# pyright: reportAttributeAccessIssue=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE
from textwrap import shorten
from typing import Any, Protocol

import diffusers
import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from fewstep.errors import UserError
from fewstep.runs import user_path

READ = ("*.json", "*.safetensors", "*.txt", "*.jinja")
"""What is fetched from a hub: no pickles, no code, no pictures."""
BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError)
"""What the libraries raise where a file is not as they expect it."""


class Loadable(Protocol):
    """A class of diffusers or transformers that reads one part of a model."""

    def from_pretrained(self, *args: Any, **options: Any) -> Any: ...


def fetch(source: str | Path, what: str = "model") -> Path:
    """The directory `source`, or the snapshot of the hub id `source`."""
    path = user_path(str(source))
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or str(source).count("/") != 1:
        raise UserError(f"{what} {str(source)!r} does not exist: give a directory or a hub id")
    try:
        return Path(snapshot_download(str(source), allow_patterns=list(READ)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{what} {str(source)!r} is no directory here and cannot be fetched from the hub: "
            f"{in_short(error)}"
        ) from error


def in_short(error: BaseException) -> str:
    """What an error says, in one line that fits into a sentence."""
    return shorten(str(error), 240) or type(error).__name__


def read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {in_short(error)}; copy it again") from error


def check_pipeline(directory: Path, name: str, folders: Sequence[str]) -> None:
    """`directory` is that of a pipeline of class `name`, and has all its folders."""
    index = directory / "model_index.json"
    if not index.is_file():
        raise UserError(
            f"{directory} is not a diffusers model directory: it has no model_index.json"
        )
    found = read_json(index).get("_class_name")
    if found != name:
        told = f"names the class {found}" if found else "names no _class_name"
        raise UserError(f"{index} {told}, but only a {name} can be loaded here")
    missing = [folder for folder in folders if not (directory / folder).is_dir()]
    if missing:
        raise UserError(
            f"the model {directory} is not whole: it has no {missing[0]}/ folder; copy or "
            "download it again"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files in a folder: at least one, none of them broken or cut short, and no
    index that names files elsewhere."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{folder} has no safetensors file; pickled weights (.bin, .pt) are never loaded, so "
            "save the model again with safe_serialization=True"
        )
    for index in sorted(folder.glob("*.safetensors.index.json")):
        named = read_json(index).get("weight_map", {}).values()
        if odd := [name for name in named if Path(str(name)).name != name]:
            raise UserError(f"{index} names {odd[0]!r}, which is no file beside it; copy it again")
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file} is broken or cut short ({in_short(error)}); copy or download it again"
            ) from error
    return files


def load_part(cls: Loadable, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """The model in a folder by the reader of its class, with every weight from its files."""
    weight_files(folder)
    try:
        with quiet():
            part, found = cls.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
    except BROKEN as error:
        raise UserError(f"{folder} cannot be loaded: {in_short(error)}") from error
    for kind in ("missing", "mismatched", "unexpected"):
        # a language model may be stored with its head, which no condition needs
        names = [k for k in found[f"{kind}_keys"] if not str(k).startswith("lm_head.")]
        if names:
            raise UserError(
                f"the weights in {folder} do not fit its config.json: {len(names)} {kind}, such as "
                f"{sorted(map(str, names))[0]}; take both files from one place"
            )
    return part


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' reports of weights, for which there is a UserError."""
    logs = (diffusers.utils.logging, transformers.utils.logging)
    levels = [log.get_verbosity() for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)


def follow_umask(directory: Path) -> None:
    """Give weights the mode of the JSON file beside them: safetensors lets only the owner read."""
    for file in directory.rglob("*.safetensors"):
        beside = next(file.parent.glob("*.json"))
        file.chmod(S_IMODE(beside.stat().st_mode))
