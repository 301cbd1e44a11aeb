"""What students are held against: the same for all, with a truth and without one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.errors import UserError
from fewstep.evaluate.metrics import draws
from fewstep.experiment.config import Experiment
from fewstep.recipes import RECIPES
from fewstep.sweep.plan import FILE, Plan, read_plan, to_text
from fewstep.sweep.score import see, training_seconds, yardstick
from fewstep.sweep.space import read_space


def plan_of(base: Experiment, **more: Any) -> Plan:
    given: dict[str, Any] = {
        "trials": 2,
        "seeds": 2,
        "top": 1,
        "fresh": 2,
        "prompts": 8,
        "pictures": 2,
    } | more
    space = read_space(["optim.student.lr=1e-5..1e-3:log", "data.micro_batch=none,8"], base)
    return Plan(recipe="x", base=base, space=space, **given)


def base_of(model: Path) -> Experiment:
    base = RECIPES["ladd_shapes_demo"]()
    samples = replace(base.data.samples, prompts=4, steps=2, guidance=1.0)
    return replace(base, model=str(model), engine="plain", data=replace(base.data, samples=samples))


def run_of(model: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copytree(model, folder / "model")
    return folder


def test_the_teacher_takes_the_place_of_a_truth(model: Path, tmp_path: Path) -> None:
    """A student that draws as the teacher does has a KID near 0, and its pictures are kept."""
    lines = tmp_path / "prompts.txt"
    lines.write_text("\n".join(f"a picture number {i}" for i in range(12)))
    base = base_of(model)
    data = replace(base.data, prompts_file=str(lines))
    sampling = replace(base.sampling, steps=2)
    base = replace(base, world="none", data=data, sampling=sampling)
    plan = plan_of(base, extractor="pixels")
    stick = yardstick(plan, tmp_path)
    assert stick.prompts == tuple(f"a picture number {i}" for i in range(4, 12))
    assert stick.keys == ("kid_pixels", "distance_pixels")
    found = see(stick, base, run_of(model, tmp_path / "run"))
    # the same model, steps and noise: the very pictures of the reference
    own = draws(stick.measures, stick.measures, stick.weights)
    assert found["kid_pixels"][0] == pytest.approx(own["kid_pixels"][0], abs=1e-6)
    assert found["distance_pixels"][0] > 0
    assert len(list((tmp_path / "reference").glob("*/*.png"))) == 16
    assert len(list((tmp_path / "run" / "pictures").glob("*/*.png"))) == 16
    more = replace(base.data, samples=replace(base.data.samples, prompts=8))
    with pytest.raises(UserError, match="would be both trained on and evaluated"):
        see(stick, replace(base, data=more), tmp_path / "run")
    (tmp_path / FILE).write_text(to_text(plan))
    assert read_plan(tmp_path / FILE) == plan


def test_students_are_paired_beside_the_truth(model: Path, tmp_path: Path) -> None:
    base = base_of(model)
    stick = yardstick(plan_of(base, pictures=1), tmp_path)
    run = run_of(model, tmp_path / "run")
    one, two = see(stick, base, run), see(stick, base, run)
    assert all(np.array_equal(one[key], two[key], equal_nan=True) for key in stick.keys)
    assert one["kid"].shape == (1001,) and np.isnan(one["layout_diversity"]).all()


def test_seconds_are_those_of_the_steps() -> None:
    rows = [
        {"phase": "heads", "step": 2},
        {"phase": "loop", "step": 2, "seconds_per_step": 0.5},
        {"phase": "loop", "step": 6, "seconds_per_step": 0.25},
    ]
    assert training_seconds(rows) == pytest.approx(2.0)
