"""What `fewstep eval --suite` draws: which prompts and seeds, which rows, and which make a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.unit.test_candidates import pictures

from fewstep.cli.rows import matrix, rows_of
from fewstep.cli.suite import without_gates
from fewstep.cli.verbs import EvalRequest
from fewstep.errors import UserError
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.suites import SUITES, SuiteName
from fewstep.experiment.candidates import Means, facts_of, folder_name, parse
from fewstep.families.adapters import Gate
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


def test_a_gate_is_a_row_of_its_own_name_and_fits_the_steps() -> None:
    strengths = (0.0, 0.5, Gate((1, 0)), Gate((0.5, 0)), Gate((-0.5, 0)))
    request = requested("shapes@2", adapter=Path("a.safetensors"), strengths=strengths)
    found, lines = rows(request)
    titles = [f"shapes, 2 steps, strength {s}" for s in ("0", "0.5", "1,0", "0.5,0", "-0.5,0")]
    assert [row.title for row in found] == titles
    assert lines == {"shapes, 2 steps": dict(zip(strengths, titles, strict=True))}
    assert without_gates(lines["shapes, 2 steps"]) == {0.0: titles[0], 0.5: titles[1]}
    with pytest.raises(UserError, match="the strength 1,0 has 2 numbers, but there are 4 steps"):
        rows(requested("shapes@2", "shapes@4", adapter=Path("a"), strengths=strengths))


def test_gates_have_folders_of_their_own(tmp_path: Path) -> None:
    """Those of one reading too: a folder's name tells no sign and no point."""
    adapter = tmp_path / "a.safetensors"
    adapter.write_bytes(b"one")
    model = replace(parse("shapes@2", 4, 1.0), adapter=adapter)
    means = Means(folder=tmp_path, device=torch.device("cpu"))
    spec = GenerationSpec(
        model="shapes", fingerprint="f", prompts=PROMPTS, seeds=(0,), sigmas=(1.0, 0.5, 0.0)
    )
    gates = [1.0, *map(Gate, ((1, 1), (1, -1), (-1, 1), (1, 1.0000001), (0.5, 0)))]
    asked = [replace(model, strength=gate) for gate in gates]
    names = [folder_name(one, spec, facts_of(one, means)) for one in asked]
    assert len(set(names)) == len(gates)
    facts = facts_of(asked[1], means)
    assert json.loads(json.dumps(facts)) == facts  # or a second run would take it for another


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
