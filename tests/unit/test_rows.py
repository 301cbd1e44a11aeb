"""What `fewstep eval --suite` draws: which prompts and seeds, which rows, and which make a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.test_candidates import pictures

from fewstep.cli.rows import matrix, rows_of
from fewstep.cli.verbs import EvalRequest
from fewstep.errors import UserError
from fewstep.evaluate.suites import SUITES, SuiteName
from fewstep.experiment.candidates import parse
from fewstep.worlds.shapes.world import Shapes

PROMPTS = tuple(
    f"a {c} {s}" for c in ("red", "blue", "green") for s in ("circle", "square", "cross")
)


def requested(*models: str, suite: SuiteName = "quick", **more: object) -> EvalRequest:
    return EvalRequest(models=models, suite=suite, **more)  # type: ignore[arg-type]


def rows(request: EvalRequest):
    models = [parse(text, request.steps, request.guidance) for text in request.models]
    return rows_of(request, SUITES[request.suite], models)


def asked_of(request: EvalRequest):
    models = [parse(text, request.steps, request.guidance) for text in request.models]
    return matrix(request, SUITES[request.suite], Shapes(), models)


def test_a_model_at_two_guidances_is_two_lines() -> None:
    found, lines = rows(requested("shapes", "shapes@20,w=2", suite="retention"))
    assert {name: list(points) for name, points in lines.items()} == {
        "shapes": [1, 2, 4, 8, 16, 30], "shapes, w = 2": [1, 2, 4, 8, 16, 30],
    }  # fmt: skip
    assert lines["shapes, w = 2"][8] == "shapes, 8 steps, w = 2" == found[9].title
    assert len({row.title for row in found}) == len(found) == 12


def test_a_model_at_two_step_counts_is_two_lines_of_strengths(tmp_path: Path) -> None:
    pictures(tmp_path / "mine", PROMPTS)
    adapter = Path("a.safetensors")
    models = ("shapes@2", str(tmp_path / "mine"), "shapes@4")
    found, lines = rows(requested(*models, adapter=adapter, strengths=(0.0, 0.5)))
    assert [row.title for row in found] == [
        "shapes, 2 steps, strength 0", "shapes, 2 steps, strength 0.5", "mine",
        "shapes, 4 steps, strength 0", "shapes, 4 steps, strength 0.5",
    ]  # fmt: skip
    assert lines["shapes, 4 steps"] == {0.0: found[3].title, 0.5: found[4].title}
    assert list(lines) == ["shapes, 2 steps", "shapes, 4 steps"]


def test_pictures_say_which_prompts_and_seeds_there_are(tmp_path: Path) -> None:
    pictures(tmp_path / "mine", PROMPTS)
    mine = str(tmp_path / "mine")
    assert asked_of(requested("shapes", mine)) == (PROMPTS, (3,))
    for option, value in (("prompts", 9), ("seeds", 1), ("prompts_file", "x.txt")):
        name = option.replace("_", "-")
        with pytest.raises(UserError, match=f"--{name} cannot be had: the pictures in .*mine say"):
            asked_of(requested(mine, **{option: value}))


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (PROMPTS[:7], "are of 7 prompts, at least 8 are needed"),
        ((*PROMPTS, "a cat"), "cannot read the prompt 'a cat' .* set --world to none"),
    ],
)
def test_pictures_that_cannot_be_measured(
    prompts: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    pictures(tmp_path / "mine", prompts)
    for more in ({}, {"reference": "shapes@8"}):
        with pytest.raises(UserError, match=said):
            asked_of(requested(str(tmp_path / "mine"), **more))
