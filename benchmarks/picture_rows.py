"""Pictures of models as PNG: a row for each model, its name on the left, a column for each prompt.

All is drawn at twice the size at which a page 900 px wide shows it, so that letters stay sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fewstep.evaluate.grids import EDGE, FAINT, INK, PAPER, to_bytes
from fewstep.runs import replacing
from fewstep.shapes import Pixels

TILE, GAP, MARGIN = 128, 12, 12
LABEL = 285
"""Width of the names."""
APART = 40
"""Between blocks, besides the gap."""
LINE = 28
"""Height of a line of text."""


@dataclass(frozen=True)
class Block:
    """Columns that belong together."""

    title: str
    prompts: Sequence[str]
    rows: Sequence[Pixels]
    """Of each model: a picture of each prompt."""


def write_rows(path: Path, names: Sequence[str], blocks: Sequence[Block]) -> None:
    """Write the picture, whole or not at all: RunError where the disk is full."""
    for block in blocks:
        if [len(row) for row in block.rows] != [len(block.prompts)] * len(names):
            raise ValueError(
                f"block {block.title!r} needs {len(names)} rows of {len(block.prompts)} pictures, "
                f"got rows of {[len(row) for row in block.rows]}"
            )
    title, name, small = (ImageFont.load_default(size) for size in (28, 25, 22))
    heads = [[folded(prompt, small, TILE) for prompt in block.prompts] for block in blocks]
    top = MARGIN + LINE * (2 + max(len(lines) for block in heads for lines in block))
    step = TILE + GAP
    width = LABEL + step * sum(map(len, heads)) + APART * (len(blocks) - 1) + 2 * MARGIN
    sheet = Image.new("RGB", (width, top + step * len(names) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for y, text in enumerate(names):
        lines = folded(text, name, LABEL - MARGIN)
        middle = top + y * step + TILE / 2
        for i, line in enumerate(lines):
            down = middle + LINE * (i - (len(lines) - 1) / 2)
            draw.text((MARGIN, down), line, INK, font=name, anchor="lm")
    left = MARGIN + LABEL
    for block, texts in zip(blocks, heads, strict=True):
        draw.text((left, MARGIN), block.title, INK, font=title)
        for x, lines in enumerate(texts):
            for i, line in enumerate(reversed(lines)):
                down = top - MARGIN - LINE * i
                draw.text((left + x * step, down), line, FAINT, font=small, anchor="ls")
        for y, row in enumerate(block.rows):
            for x, pixels in enumerate(to_bytes(row)):
                at = left + x * step, top + y * step
                tile = Image.fromarray(pixels)
                sheet.paste(tile.resize((TILE, TILE), Image.Resampling.NEAREST), at)
                # or white pictures would have no edge on white paper
                edge = (at[0] - 1, at[1] - 1, at[0] + TILE, at[1] + TILE)
                draw.rectangle(edge, outline=EDGE)
        left += step * len(texts) + APART
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        sheet.save(temporary, format="png", optimize=True)


def folded(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The words in lines of at most `width` pixels; a longer word has a line of its own."""
    first, *words = text.split()
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
