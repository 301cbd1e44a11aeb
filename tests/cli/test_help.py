"""Every recipe and every verb is documented, and help lists it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.cli import main
from fewstep.cli.app import VERBS, parse_train
from fewstep.experiment.codec import from_yaml, to_yaml
from fewstep.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_trap37_recipes_are_documented_and_survive_yaml(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPES[name]()
    assert from_yaml(to_yaml(recipe)) == recipe
    assert parse_train([name]).experiment == recipe
    assert main(["recipes"]) == 0
    said = capsys.readouterr().out
    assert name in said
    for fact in ("Hardware:", "Duration:", "Score:"):
        assert fact in str(RECIPES[name].__doc__)


def test_trap37_every_verb_answers_and_help_lists_it(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *options, "--dry-run"]) == 0
    assert "would start a run in runs/ladd_shapes_demo" in capsys.readouterr().out
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"fewstep {verb}" in said for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (["recipes"], ["usage: fewstep recipes"]),
        (["train"], ["--config", "--out", "--dry-run", "ladd_zimage", "--optim.student.lr"]),
        (["train", "ladd_zimage"], ["--out", "--data.samples.height", "(default: 1024)"]),
        (["demo"], ["usage: fewstep demo", "--dry-run", "data.samples options", "(default: 512)"]),
        (["sample"], ["--model", "--height", "--dtype", "--out"]),
        (["eval"], ["--suite", "--gap", "--eval.prompts", "--eval.full-steps"]),
        (["report"], ["RUN"]),
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_trap37_help_of_every_verb(
    words: list[str], listed: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, flag]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [fact for fact in listed if fact not in said.out] == []
