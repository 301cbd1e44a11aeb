"""docs/tune_a_style.md: its sums are right, its recipes exist; those for Z-Image-Turbo are on its
grid. Its commands and links are looked at in test_adapter_doc."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewstep.experiment.builder import check_levels
from fewstep.flow.sigmas import TURBO_GRID
from fewstep.recipes import RECIPES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tune_a_style.md"
TEXT = PAGE.read_text(encoding="utf-8")
ZIMAGE = ("dopsd_zimage_turbo", "dopsd_zimage_turbo_24gb")


def test_the_sums_of_memory() -> None:
    models = [2 * 6_154_908_736 / 1e9, 2 * 4.022]
    written = [float(cell) for cell in re.findall(r"\| ([\d.]+) \|$", TEXT, re.M)]
    assert written == [*(round(x, 1) for x in models), round(sum(models), 1)]
    a_pass = {side: 2 * (side / 16) ** 2 * 30 * (14 * 3840 + 4 * 10240) / 1e9
              for side in (1024, 512, 256)}  # fmt: skip
    assert [round(a_pass[s], 1) for s in (1024, 512, 256)] == pytest.approx([23, 6, 1.5], rel=0.05)
    assert "about 45 GB" in TEXT and 44 < sum(models) + a_pass[1024] + 1 < 46
    assert "about 22 GB" in TEXT and sum(models) + a_pass[256] == pytest.approx(22, abs=0.3)
    assert "would be 26 GB" in TEXT and sum(models) + a_pass[512] == pytest.approx(26, abs=0.3)


@pytest.mark.parametrize("name", ZIMAGE)
def test_z_image_turbo_is_trained_where_it_is_sampled(name: str) -> None:
    experiment = RECIPES[name]()
    check_levels(experiment.method.student_sigmas, TURBO_GRID)
    assert experiment.sampling.steps == 8 and experiment.sampling.sampler == "euler"
    assert experiment.data.size() == (1024, 1024) if name == ZIMAGE[0] else (256, 256)
    samples = experiment.data.samples
    assert (samples.height, samples.width) == experiment.data.size()
    told = {ZIMAGE[0]: "picture", ZIMAGE[1]: "prompt"}
    assert experiment.data.folder.context == told[name]


def test_recipes_that_it_names_exist() -> None:
    for name in re.findall(r"`(\w+_shapes|dopsd_\w+)`", TEXT):
        assert name in RECIPES, name
