"""Files that several workers may write, and JSON that knows whether it is whole."""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewstep.disk import link, sync


def publish(path: Path, data: bytes) -> bool:
    """Write a file whole and synced, unless there is one: of several, the first one wins."""
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            first = link(temporary, path)
            sync(path.parent)  # a name is safe once its folder has been written
            return first
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            # who took us for dead has cleared what we had written: once more
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def clear(directory: Path, name: str = "") -> None:
    """Remove what workers that died have left half-written, of all files or of `name`.*; one that
    is alive and late writes it again."""
    for left_over in directory.glob(f".{name}.*" if name else ".*.*"):
        left_over.unlink(missing_ok=True)


def sealed(facts: Mapping[str, Any]) -> bytes:
    """JSON with a checksum of itself."""
    text = json.dumps(facts, sort_keys=True)
    return json.dumps({"crc32": zlib.crc32(text.encode()), "facts": facts}).encode() + b"\n"


def unsealed(data: bytes) -> dict[str, Any]:
    """ValueError where it is not what was sealed."""
    try:
        found = json.loads(data)
        facts, expected = found["facts"], found["crc32"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"it is no sealed JSON ({error})") from None
    if zlib.crc32(json.dumps(facts, sort_keys=True).encode()) != expected:
        raise ValueError("its crc32 differs")
    return facts
