"""From prompt files to lists for training, validation and test, stage by stage.

    clean     read, normalise, check the rules, drop what repeats an earlier prompt word for word
    leaks     drop what gives an evaluation prompt away
    near      drop what nearly repeats another
    meaning   drop what means the same as another (with a model of texts)
    labels    subject, style and camera of each
    fill      new prompts for kinds that have too few
    sample    floors and caps by kind, then the splits

Each stage leaves its table in `stages/`, under a key of everything that decides it: the same
command goes on behind the last stage that is whole, and a changed option redoes what it changes.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fewstep.curation import steps, taxonomy
from fewstep.curation.book import Book, read_table, took_of, write_table
from fewstep.curation.config import Curation, Source
from fewstep.curation.taxonomy import Taxonomy
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.hashing import text_hash
from fewstep.machine import peak_resident_mb

VERSION = 1
"""Of what the stages do: another one makes their tables anew."""


@dataclass(frozen=True)
class Stage:
    name: str
    facts: Mapping[str, Any]
    """What decides the result, beside the stages before."""
    run: Callable[[Book], Book]


@dataclass(frozen=True)
class Curated:
    """What came of it."""

    book: Book
    axes: Mapping[str, Sequence[str]]
    stages: Sequence[Mapping[str, Any]]
    """Name, seconds, rows kept and peak memory of each whose table is there."""


def curate(source: Source, cfg: Curation, out: Path, told: Told = quiet) -> Curated:
    """All stages, from the last one that is whole in `out`.

    UserError for what the user can repair.
    """
    kinds = taxonomy.load(source.taxonomy)
    stages = stages_of(source, cfg, kinds, told)
    folder = out / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    keys, before = list[dict[str, Any]](), ""
    for stage in stages:
        keys.append({"stage": stage.name, "version": VERSION, "before": before, **stage.facts})
        before = text_hash(json.dumps(keys[-1], sort_keys=True))
    paths = [folder / f"{i}_{stage.name}.parquet" for i, stage in enumerate(stages)]
    book, begin = Book(), 0
    for i in reversed(range(len(stages))):
        if (found := read_table(paths[i], keys[i])) is not None:
            book, begin = Book.of_table(found), i + 1
            break
    for i in range(begin, len(stages)):
        told(stages[i].name, i, len(stages))
        began = time.monotonic()
        book = stages[i].run(book)
        took = {
            "name": stages[i].name, "seconds": time.monotonic() - began, "kept": len(book.kept()),
            "peak_mb": peak_resident_mb(),
        }  # fmt: skip
        write_table(paths[i], book.table(), keys[i], took)
    told("stages", len(stages), len(stages))
    each = (took_of(path, key) for path, key in zip(paths, keys, strict=True))
    return Curated(book, kinds.axes, [took for took in each if took is not None])


def stages_of(source: Source, cfg: Curation, kinds: Taxonomy, told: Told) -> list[Stage]:
    of_files = {"files": [identity(path) for path in source.files], "field": source.field}
    model = None if source.embed is None else [identity(p) for p in model_files(source.embed)]
    own = text_hash(repr((kinds.axes, kinds.phrases, kinds.telling)))
    found = [
        Stage("clean", {**of_files, "rules": asdict(cfg.rules)},
              partial(steps.clean, source, cfg.rules, told)),
    ]  # fmt: skip
    if source.against:
        facts = {"against": [identity(path) for path in source.against],
                 "field": source.against_field, "leak": cfg.leak}  # fmt: skip
        found.append(Stage("leaks", facts, partial(steps.drop_leaks, source, cfg.leak, told)))
    found.append(Stage("near", {"near": cfg.near}, partial(steps.drop_near, cfg.near, told)))
    if source.embed is not None:
        run = partial(steps.drop_meaning, source.embed, cfg.meaning)
        found.append(Stage("meaning", {"model": model, "meaning": cfg.meaning}, run))
    labels = partial(steps.label, kinds, source.embed)
    found.append(Stage("labels", {"taxonomy": own, "model": model}, labels))
    if cfg.fill.floor:
        scripts = [identity(path) for path in map(Path, shlex.split(cfg.fill.command or ""))
                   if path.is_file()]  # fmt: skip
        facts = {"fill": asdict(cfg.fill), "seed": cfg.seed, "scripts": scripts}
        found.append(Stage("fill", facts, partial(steps.fill_gaps, kinds, source, cfg)))
    facts = {"quota": asdict(cfg.quota), "split": asdict(cfg.split), "seed": cfg.seed}
    found.append(Stage("sample", facts, partial(steps.sample, cfg)))
    return found


def model_files(directory: Path) -> list[Path]:
    """What decides the embeddings of a model; UserError where nothing does."""
    found = sorted(path for name in ("*.safetensors", "*.json", "*.txt", "*.model")
                   for path in directory.glob(name))  # fmt: skip
    if not found:
        raise UserError(f"--embed: {directory} holds no model of texts")
    return found


def identity(path: Path) -> list[str]:
    """Name and contents of a file; UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return [path.name, hashlib.file_digest(file, "blake2b").hexdigest()[:16]]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
