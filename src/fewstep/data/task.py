"""Which samples are wanted, of whom, and where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.data.cache import Key
from fewstep.data.shards import Row, shard_path
from fewstep.data.teacher import Shown, TeacherSamples, key_of, rows_of
from fewstep.families.base import Family
from fewstep.hashing import text_hash


@dataclass(frozen=True, kw_only=True)
class Task:
    """Samples that are wanted, and where they lie."""

    cfg: TeacherSamples
    family: Family
    rows: Sequence[Row]
    shown: Shown | None
    key: Key
    directory: Path


def task_of(
    cfg: TeacherSamples, family: Family, prompts: Sequence[str], root: Path, *,
    shown: Shown | None = None, facts: Mapping[str, Any] | None = None,
    directory: Path | None = None,
) -> Task:  # fmt: skip
    """The samples of these prompts.

    root       holds one directory for each key; or `directory` says where, and must fit the key
    shown      needed where `cfg.picture_share` > 0
    facts      goes into the key: what decides the samples and is not seen here (JSON values)
    """
    if cfg.picture_share and shown is None:
        raise ValueError("picture_share > 0 needs pictures, but this world offers none")
    key = key_of(cfg, family, prompts, shown, facts or {})
    directory = directory or root / text_hash(json.dumps(key, sort_keys=True))
    return Task(
        cfg=cfg, family=family, rows=rows_of(cfg, prompts), shown=shown, key=key,
        directory=directory,
    )  # fmt: skip


def missing_rows(task: Task) -> Sequence[Row]:
    """Those whose shards are not there yet; damage is not looked for."""
    size = task.cfg.shard
    return [
        row for i, row in enumerate(task.rows)
        if not shard_path(task.directory, i // size).with_suffix(".json").exists()
    ]  # fmt: skip
