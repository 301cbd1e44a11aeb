"""Recipes: functions that return an experiment, with its hardware, duration and score."""

from collections.abc import Callable

from fewstep.experiment.config import Experiment
from fewstep.recipes.dmd2 import dmd2_shapes, dmd2_shapes_narrow, dmd2_shapes_narrow8
from fewstep.recipes.dopsd import (
    dopsd_shapes,
    dopsd_zimage_turbo,
    dopsd_zimage_turbo_16gb,
    dopsd_zimage_turbo_24gb,
)
from fewstep.recipes.ladd import (
    ladd_shapes,
    ladd_shapes_demo,
    ladd_zimage,
    ladd_zimage_8x80gb,
    ladd_zimage_32gb,
    ladd_zimage_48gb,
    ladd_zimage_80gb,
    ladd_zimage_lora_16gb,
    ladd_zimage_lora_24gb,
)
from fewstep.recipes.sda import sda_shapes, sda_shapes8, sda_zimage_turbo, sda_zimage_turbo_24gb
from fewstep.recipes.sft import sft_shapes, undistill_shapes, undistill_shapes8
from fewstep.recipes.yardsticks import (
    dreambooth_shapes,
    offpolicy_shapes,
    pso_shapes,
    sft_tune_shapes,
)

RECIPES: dict[str, Callable[[], Experiment]] = {
    recipe.__name__: recipe
    for recipe in (
        ladd_shapes,
        ladd_shapes_demo,
        ladd_zimage,
        ladd_zimage_80gb,
        ladd_zimage_48gb,
        ladd_zimage_32gb,
        ladd_zimage_8x80gb,
        ladd_zimage_lora_24gb,
        ladd_zimage_lora_16gb,
        dmd2_shapes,
        dmd2_shapes_narrow,
        dmd2_shapes_narrow8,
        sda_shapes,
        sda_shapes8,
        sda_zimage_turbo,
        sda_zimage_turbo_24gb,
        sft_shapes,
        undistill_shapes,
        undistill_shapes8,
        dopsd_shapes,
        dopsd_zimage_turbo,
        dopsd_zimage_turbo_24gb,
        dopsd_zimage_turbo_16gb,
        sft_tune_shapes,
        dreambooth_shapes,
        pso_shapes,
        offpolicy_shapes,
    )
}
"""By the name that `fewstep train` takes."""
