"""What `fewstep eval RUN` draws: the run's teacher at full and at few steps, and its student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.cli import evaluation
from fewstep.cli.evaluation import evaluate_run
from fewstep.errors import UserError
from fewstep.evaluate.story import EvalConfig
from fewstep.experiment.config import Experiment
from fewstep.recipes import RECIPES

CPU = torch.device("cpu")


class Stop(Exception):
    pass


def asked_of(run: Experiment, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The arguments of every `candidate`."""
    found: list[tuple] = []

    def candidate(asked: Any, prompts: Any, seeds: Any, load: Any, means: Any) -> str:
        found.append((asked, prompts, seeds, means))
        return asked.name

    def judge(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(evaluation, "candidate", candidate)
    monkeypatch.setattr(evaluation, "judge", judge)
    with pytest.raises(Stop):
        evaluate_run(run, folder, folder / "model", CPU, "fewstep eval x", lambda *_: None)
    return found


def test_teacher_and_student_are_drawn_as_the_run_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = EvalConfig(
        prompts=8, seeds=3, full_seeds=2, full_steps=9, full_guidance=1.5, batch=5, split="val"
    )
    run = replace(RECIPES["ladd_shapes"](), eval=shown, engine="fused", dtype="bfloat16")
    full, few, student = asked_of(run, tmp_path, monkeypatch)
    few_steps = run.sampling.steps
    assert [(a.role, a.source, a.steps, a.guidance, seeds) for a, _, seeds, _ in
            (full, few, student)] == [
        ("teacher_full", run.model, 9, 1.5, (0, 1)),
        ("teacher_few", run.model, few_steps, 1.0, (0, 1, 2)),
        ("student", str(tmp_path / "model"), few_steps, 1.0, (0, 1, 2)),
    ]  # fmt: skip
    assert full[1] == few[1] == student[1] and len(full[1]) == 8
    means = student[3]
    assert means == full[3] and (means.folder, means.batch) == (tmp_path / "pictures", 5)
    assert (means.engine, means.dtype, means.height) == ("fused", "bfloat16", 64)


def test_a_run_without_a_world_is_referred_to_a_suite(tmp_path: Path) -> None:
    run = RECIPES["ladd_shapes"]()
    data = replace(
        run.data, prompts_file="p.txt", samples=replace(run.data.samples, picture_share=0)
    )
    with pytest.raises(UserError, match=r"has no truth .* --suite quick --reference MODEL"):
        evaluate_run(
            replace(run, world="none", data=data), tmp_path, tmp_path, CPU, "", lambda *_: None
        )
