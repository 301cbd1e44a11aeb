"""Files that several workers may write, and JSON that knows whether it is whole."""

from __future__ import annotations

import errno
import json
import os
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewstep.disk import sync


def publish(path: Path, data: bytes) -> bool:
    """Write a file whole and synced, unless there is one: of several, the first one wins."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except (FileExistsError, FileNotFoundError):
            if not path.exists():
                raise
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            if path.exists():  # a file system without hard links
                return False
            temporary.replace(path)
        sync(path.parent)  # a name is safe once its folder has been written
        return True
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def clear(directory: Path, stem: str = "shard_") -> None:
    """Remove what workers that died have left half-written of the files that begin so. One that is
    still alive and late finds that another was first."""
    for left_over in directory.glob(f".{stem}*"):
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
