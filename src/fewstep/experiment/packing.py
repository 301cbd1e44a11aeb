"""Which layers of a Z-Image can be kept in fewer bits: those with nearly all of its weights.

Attention and feed-forward of every block. What modulates the blocks, and what is before and behind
them, stays as it is: that is 2 % of Z-Image, and every block stands on it.
"""

from __future__ import annotations

from torch import nn

from fewstep.families.zimage import ZImage
from fewstep.nets.packed import PackedName, pack

BLOCKS = ("layers", "noise_refiner", "context_refiner")
PARTS = ("attention", "feed_forward")


def pack_blocks(family: ZImage, kind: PackedName) -> None:
    """In place, unless they are packed already; ValueError where one of them trains."""
    transformer = family.pipeline.transformer
    if family.packed_from is None and transformer.device.type != "meta":
        family.packed_from = family.fingerprint()
    family.packed_as = family.packed_as or kind
    names = [
        f"{blocks}.{i}.{part}.{name}"
        for blocks in BLOCKS
        for i, block in enumerate(transformer.get_submodule(blocks).children())
        for part in PARTS
        for name, layer in block.get_submodule(part).named_modules()
        if isinstance(layer, nn.Linear)
    ]
    pack(transformer, names, kind)
