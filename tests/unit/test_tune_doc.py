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
    """What stays of the recipe for 24 GB, with the text encoder and the autoencoder, and a pass."""
    frozen, encoder, autoencoder = (2 * n / 2**30 for n in (6_154_908_736, 4.022e9, 83.8e6))
    # four matrices of the one width and three of the other, of rank 16, in 30 blocks; with an
    # average and two moments
    adapter = 4 * 4 * 30 * 16 * (4 * 2 * 3840 + 3 * (3840 + 10240)) / 2**30
    assert "19.6 GiB while prompts" in TEXT
    assert frozen + encoder + autoencoder + adapter == pytest.approx(19.6, abs=0.05)
    a_pass = {side: 2 * (side / 16) ** 2 * 30 * (14 * 3840 + 4 * 10240) / 1e9
              for side in (1024, 512)}  # fmt: skip
    assert "6 GB at 512 x 512 and 23 GB at 1024" in TEXT
    assert [round(a_pass[s], 1) for s in (1024, 512)] == pytest.approx([23, 6], rel=0.05)


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
