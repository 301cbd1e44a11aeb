"""The soak's judge: whole checkpoints alone count, and any byte that differs is named."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

from benchmarks.soak import children, differing, steps_of


def checkpoint(folder: Path, step: int, data: bytes) -> Path:
    path = folder / "checkpoints" / f"step_{step:08d}"
    path.mkdir(parents=True)
    files = {"state.json": json.dumps({"format": 2}).encode(), "module.student.safetensors": data}
    for name, content in files.items():
        (path / name).write_bytes(content)
    manifest = {n: {"size": len(c), "crc32": zlib.crc32(c)} for n, c in files.items()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_whole_checkpoints_by_step(tmp_path: Path) -> None:
    one = checkpoint(tmp_path, 10, b"abc")
    checkpoint(tmp_path, 20, b"abcd")
    (checkpoint(tmp_path, 30, b"xy") / "module.student.safetensors").write_bytes(b"x")
    assert list(steps_of(tmp_path)) in ([10, 20], [20, 10])
    other = tmp_path / "other"
    shutil.copytree(one, other)
    assert differing(one, other) == []
    (other / "module.student.safetensors").write_bytes(b"abd")
    assert differing(one, other) == ["module.student.safetensors"]
    (other / "state.json").unlink()
    assert differing(one, other) == ["module.student.safetensors", "state.json"]
    assert children(1 << 30) == []
