"""Image grids as PNG: models side by side, every row the same prompt and the same seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from fewstep.runs import replacing
from fewstep.shapes import Pixels

INK = (24, 26, 32)
FAINT = (112, 118, 130)
EDGE = (222, 224, 228)
PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Column:
    """One model: its images, (rows x seeds) of them, all seeds of the first row first."""

    title: str
    images: Pixels


def write_grid(
    path: Path, columns: Sequence[Column], rows: Sequence[str], *, seeds: int = 1, tile: int = 96
) -> Path:
    """Write a labelled grid: a column for each model, a row for each prompt, `seeds` tiles a cell.

    Empty titles and row labels take no room (a strip of samples needs neither). Images are enlarged
    by whole factors without smoothing, so that blur seen is blur made. The file appears whole or
    not at all: RunError where the disk is full.
    """
    for column in columns:
        if len(column.images) != len(rows) * seeds:
            raise ValueError(
                f"column {column.title!r} needs {len(rows)} rows x {seeds} seeds of images, "
                f"got {len(column.images)}"
            )
    if not columns or not rows:
        raise ValueError("a grid needs at least one column and one row")
    height, width = columns[0].images.shape[2:]
    factor = max(1, round(tile / height))
    tile_h, tile_w = height * factor, width * factor
    gap, between, label = 3, 18, 26 if any(rows) else 3
    cell = seeds * (tile_w + gap) - gap
    title_font = ImageFont.load_default(15)
    font = ImageFont.load_default(13)
    titles = [wrapped(c.title, title_font, cell) for c in columns]
    head = 20 * max(len(lines) for lines in titles) + 10 if any(titles) else 8
    full = len(columns) * (cell + between) - between
    sheet = Image.new("RGB", (full + 24, head + len(rows) * (tile_h + label) + 14), PAPER)
    draw = ImageDraw.Draw(sheet)
    for c, (column, lines) in enumerate(zip(columns, titles, strict=True)):
        left = 12 + c * (cell + between)
        for i, line in enumerate(lines):
            draw.text((left, 8 + 20 * i), line, INK, font=title_font)
        tiles = to_bytes(column.images)
        for i, pixels in enumerate(tiles):
            row, seed = divmod(i, seeds)
            top = head + row * (tile_h + label) + label
            picture = Image.fromarray(pixels).resize((tile_w, tile_h), Image.Resampling.NEAREST)
            x = left + seed * (tile_w + gap)
            sheet.paste(picture, (x, top))
            # or white pictures would have no edge on white paper
            draw.rectangle((x - 1, top - 1, x + tile_w, top + tile_h), outline=EDGE)
    for row, text in enumerate(rows):
        line = next(iter(wrapped(text, font, full)), "")
        draw.text((12, head + row * (tile_h + label) + 6), line, FAINT, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        sheet.save(temporary, format="png", optimize=True)
    return path


def write_sheet(path: Path, images: Pixels, columns: int = 8) -> Path:
    """The seeds of one prompt as rows of `columns` tiles, at their own size."""
    tiles = to_bytes(images)
    count, height, width = tiles.shape[:3]
    gap, across = 2, min(columns, count)
    size = (across * (width + gap) - gap, -(-count // across) * (height + gap) - gap)
    sheet = Image.new("RGB", size, PAPER)
    for i, pixels in enumerate(tiles):
        row, column = divmod(i, across)
        sheet.paste(Image.fromarray(pixels), (column * (width + gap), row * (height + gap)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        sheet.save(temporary, format="png", optimize=True)
    return path


def to_bytes(images: Pixels) -> np.ndarray:
    """(n, H, W, 3) uint8."""
    scaled = images.detach().cpu().float().clamp(0, 1).mul(255).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines that fit `width` pixels."""
    each = max(font.getlength(text) / max(len(text), 1), 1.0)
    return textwrap.wrap(text, max(int(width / each), 8))
