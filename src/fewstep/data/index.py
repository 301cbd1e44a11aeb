"""The index of a finished set of samples: a Parquet table with a row for each of them.

id, prompt, prompt_hash, picture, length    what it is; length is in tokens
shard, row                                  the file it lies in, and which of its rows it is
x0_*, tokens_*                              byte ranges in that file, with their crc32
seed, teacher, grid                         of its noise; hashes of the model and of its sigmas

The schema's metadata hold size and checksums of every shard. The table is made of the shards' own
JSON and of nothing else, so that it can be made again; `index.json` tells whether it is whole.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fewstep.data.publish import sealed, unsealed
from fewstep.data.shards import Rejected, Shard, Span
from fewstep.hashing import text_hash
from fewstep.rng import seed_of
from fewstep.runs import replacing, write_atomic

INDEX = "index.parquet"
SPAN = {"begin": pa.int64(), "end": pa.int64(), "crc32": pa.uint32()}
SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("prompt", pa.string()), ("prompt_hash", pa.string()),
        ("picture", pa.bool_()), ("length", pa.int32()), ("shard", pa.int32()),
        ("row", pa.int32()), *((f"x0_{name}", kind) for name, kind in SPAN.items()),
        *((f"tokens_{name}", kind) for name, kind in SPAN.items()), ("seed", pa.int64()),
        ("teacher", pa.string()), ("grid", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """Of a shard: what its file must be."""

    size: int
    crc32: int
    header: Span


@dataclass(frozen=True)
class Index:
    table: pa.Table
    shards: tuple[Whole, ...]
    shape: tuple[int, ...]
    """Of a latent."""
    width: int
    """Of a token."""
    tokens_dtype: str
    rejected: tuple[Rejected, ...]
    """Samples that were left out, in the order of the prompts."""


def write_index(directory: Path, key: Mapping[str, Any], shards: Sequence[Shard]) -> None:
    """Make the table of all shards; the same bytes whoever makes it. ValueError where they do not
    belong together."""
    first = shards[0]
    if odd := [i for i, s in enumerate(shards) if (s.shape, s.width) != (first.shape, first.width)]:
        raise ValueError(f"shard {odd[0]} holds samples of another shape than the first")
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    teacher, grid = str(key["model"]), text_hash(json.dumps(key["sigmas"]))
    for index, shard in enumerate(shards):
        for n, stored in enumerate(shard.rows):
            own = {
                "id": stored.row.id, "prompt": stored.row.prompt, "picture": stored.row.picture,
                "prompt_hash": text_hash(stored.row.prompt), "length": stored.length,
                "shard": index, "row": n, "teacher": teacher, "grid": grid,
                "seed": seed_of(key["seed"], 0, "teacher", noise_name(key, stored.row.id)),
            }  # fmt: skip
            for name, at in (("x0", stored.x0), ("tokens", stored.tokens)):
                for part in SPAN:
                    own[f"{name}_{part}"] = None if at is None else getattr(at, part)
            for name, value in own.items():
                columns[name].append(value)
    facts = {
        "shards": [asdict(Whole(s.size, s.crc32, s.header)) for s in shards],
        "shape": first.shape, "width": first.width, "tokens_dtype": first.tokens_dtype,
        "rejected": [asdict(r) for s in shards for r in s.rejected],
    }  # fmt: skip
    schema = SCHEMA.with_metadata({"fewstep": json.dumps(facts)})
    path = directory / INDEX
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)
        data = temporary.read_bytes()
    whole = {"size": len(data), "crc32": zlib.crc32(data)}
    write_atomic(path.with_suffix(".json"), sealed(whole))


def noise_name(key: Mapping[str, Any], name: str) -> str:
    """Whose noise a sample is drawn from: its own, or the one of all."""
    return "one" if key.get("noise", "each") == "one" else name


def read_index(directory: Path) -> Index | None:
    """None where there is none that is whole: it is made again."""
    path = directory / INDEX
    try:
        data = path.read_bytes()
        if unsealed(path.with_suffix(".json").read_bytes()) != {
            "size": len(data), "crc32": zlib.crc32(data),
        }:  # fmt: skip
            return None
    except (FileNotFoundError, ValueError):
        return None
    table = pq.read_table(pa.BufferReader(data))
    facts = json.loads(table.schema.metadata[b"fewstep"])
    return Index(
        table=table,
        shards=tuple(Whole(s["size"], s["crc32"], Span(**s["header"])) for s in facts["shards"]),
        shape=tuple(facts["shape"]), width=facts["width"], tokens_dtype=facts["tokens_dtype"],
        rejected=tuple(Rejected(**r) for r in facts["rejected"]),
    )  # fmt: skip
