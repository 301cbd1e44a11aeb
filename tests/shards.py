"""Shards of teacher samples as something else would have written them: every checksum fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewstep.data.publish import sealed
from fewstep.data.shards import Row, pack, read_shard
from fewstep.families.base import Cond


def repacked(path: Path, change: Callable[[Tensor, list[Tensor]], Tensor]) -> list[Row]:
    """Write a shard anew with what `change` makes of its latents and conditions; its rows. The
    index goes, and is made of what is there."""
    shard, stored = read_shard(path), load_file(path)
    rows = [each.row for each in shard.rows]
    tokens = [t.clone() for t in stored["tokens"].split([each.length for each in shard.rows])]
    x0 = change(stored["x0"], tokens)
    data, packed = pack(rows, x0, Cond(tuple(tokens)), texts=True, rejected=shard.rejected)
    path.unlink()  # others may have mapped it
    path.write_bytes(data)
    path.with_suffix(".json").write_bytes(sealed(asdict(packed)))
    (path.parent / "index.parquet").unlink()
    return rows


def rescaled(path: Path, scale: float, shift: float) -> None:
    """All latents of a shard in other units."""
    repacked(path, lambda x0, tokens: scale * x0 + shift)


def spoiled(path: Path, what: str, row: int) -> Row:
    """Make the latent or the condition of one row of a shard not finite; the row."""

    def change(x0: Tensor, tokens: list[Tensor]) -> Tensor:
        if what == "latent":
            x0[row, 0, 1, 2] = torch.inf
        else:
            tokens[row][-1, 0] = torch.nan
        return x0

    return repacked(path, change)[row]
