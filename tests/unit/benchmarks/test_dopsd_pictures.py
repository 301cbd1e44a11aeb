"""Which concepts and prompts are shown, what is true of them, and where a picture lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.dopsd_arms import Arm
from benchmarks.dopsd_concepts import SECOND, Taught, novel, pairs, pictures, taught
from benchmarks.dopsd_pictures import asked, chosen, finished, true_pictures
from benchmarks.dopsd_plan import Task
from benchmarks.dopsd_rows import Row, gather
from benchmarks.dopsd_verdicts import verdicts
from benchmarks.picture_rows import APART, GAP, LABEL, MARGIN, TILE, Block, folded, write_rows
from benchmarks.study_judge import Result
from PIL import Image, ImageFont

from fewstep.recipes.dopsd import dopsd_shapes
from fewstep.worlds.shapes.world import Shapes

WORLD = Shapes()
ALL = taught(WORLD)
ARMS = [Arm(name=n, question="method", level=n, base=dopsd_shapes()) for n in ("dopsd", "sft")]
TASKS = [Task(arm=arm, taught=one, seed=seed, pictures=Path())
         for seed in range(2) for arm in ARMS for one in ALL]  # fmt: skip


def rows_of(*runs: str, failed: str = "") -> list[Row]:
    """Rows of the runs with these names, "sft_hue4 0"."""
    found = {f"{task.name} {task.seed}": task for task in TASKS}
    return gather(TASKS, {
        found[run]: Result(run, found[run].seed, 1.0, {}, "not finite" if run == failed else None)
        for run in runs
    })  # fmt: skip


def test_the_first_concept_of_each_kind_that_has_a_run_is_shown() -> None:
    def names(rows: list[Row]) -> list[str]:
        return [one.name for one in chosen(TASKS, rows)]

    everything = rows_of(*(f"{task.name} {task.seed}" for task in TASKS))
    assert names(everything) == ["hue4", "outline5", "both7"]
    # the only run of outline5 left no model, and hue4 has one of another seed
    some = ("dopsd_hue4 1", "sft_hue6 0", "dopsd_outline5 0", "sft_outline7 0", "dopsd_style1 0")
    assert names(rows_of(*some, failed="dopsd_outline5 0")) == ["hue4", "outline7"]
    assert names([]) == []


def test_arms_whose_run_left_a_model_have_a_row() -> None:
    both = rows_of("dopsd_hue4 0", "sft_hue4 0", "dopsd_hue6 1", failed="sft_hue4 0")
    assert [row.label for row in finished(both, ALL[0])] == ["dopsd"]
    assert [row.label for row in finished(both, ALL[1])] == ["dopsd"]  # of its first seed, 1
    assert finished(both, ALL[2]) == []


def test_prompts_are_the_first_that_are_judged() -> None:
    one, texts = ALL[0], novel(WORLD, ALL[0], 32)
    assert asked(one, "few", texts) == tuple(texts[:8]) and "a large [V]" in texts[:8]
    assert asked(one, "many", texts) == tuple(texts[:4])
    [(_, second)] = pairs(WORLD, ["hue4", "outline5"])
    [said, _] = asked(second, "few", ["a large [V]", "two [V]s"])
    assert said == f"a large {SECOND}"


@pytest.mark.parametrize("one", ALL[:6], ids=lambda one: one.name)
def test_true_pictures_are_right_and_not_those_of_the_training(one: Taught) -> None:
    texts = novel(WORLD, one, 8)
    found = verdicts(WORLD, one, shown := true_pictures(WORLD, one, texts), texts)
    assert found["right"].mean() >= 7 / 8 and shown.shape == (8, 3, 64, 64)
    assert torch.equal(true_pictures(WORLD, one, texts), shown)
    assert not any((picture == shown).flatten(1).all(1).any() for picture in pictures(WORLD, one))


def test_lines_keep_to_their_width() -> None:
    font = ImageFont.load_default(22)
    text = "a white background with a magenta triangle and a [V]"
    lines = folded(text, font, TILE)
    assert " ".join(lines) == text and all(font.getlength(line) <= TILE for line in lines)
    # and no line would have held the next word
    firsts = [line.split()[0] for line in lines[1:]]
    assert all(font.getlength(f"{line} {word}") > TILE
               for line, word in zip(lines, firsts, strict=False))  # fmt: skip
    assert folded("a characteristically long word", font, 60)[1] == "characteristically"


def test_every_picture_is_in_its_row_and_column(tmp_path: Path) -> None:
    levels = torch.arange(1, 7) / 8
    few, many = (levels[:, None, None, None].expand(6, 3, 64, 64) * scale for scale in (1, 0.5))
    blocks = [Block("4 steps", ["a [V]"] * 3, few.split(3)),
              Block("30 steps", ["two [V]s"], [many[:1], many[3:4]])]  # fmt: skip
    write_rows(path := tmp_path / "figures" / "rows.png", ["before", "after"], blocks)
    sheet = np.asarray(Image.open(path).convert("L"))
    step, left = TILE + GAP, LABEL + MARGIN
    top = len(sheet) - MARGIN - 2 * step
    for y, row in enumerate(torch.cat([levels.view(2, 3), levels[[0, 3], None] / 2], 1)):
        for x, level in enumerate(row.tolist()):
            right, down = left + step * x + APART * (x == 3), top + step * y
            tile = sheet[down : down + TILE, right : right + TILE]
            assert np.allclose(tile / 255, level, atol=1 / 255), (x, y)
    # nothing is written past the edges
    assert (sheet[:, -MARGIN:] == 255).all() and (sheet[:, :MARGIN] == 255).all()
    with pytest.raises(ValueError, match=r"'4 steps' needs 1 rows of 3 pictures, got .*\[3, 3\]"):
        write_rows(path, ["before"], blocks)
