"""`fewstep plan`: what it says, what it refuses, and that it loads and writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.said import error

from fewstep.cli import main, planning

WHOLE = ("parameters: ", "a step of heads and student: ", "GiB that stay: ", "GiB at the most, ",
         "peak ", "A100 80 GB: ", "H200 141 GB: ", "samples seen: ",
         "teacher samples: ")  # fmt: skip


@pytest.mark.slow
def test_a_recipe_by_the_configs_of_its_model(
    options: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No weights lie there, and nothing is written."""
    shutil.copytree(model, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    before = sorted(tmp_path.rglob("*"))
    words = ["plan", "ladd_shapes", *options, "--model", str(tmp_path / "model")]
    assert main([*words, "--engine", "plain"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line[: len(start)] for line, start in zip(said, WHOLE, strict=True)] == [*WHOLE]
    assert main([*words, "--gigabytes", "0.5"]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("engine fused is counted as plain, which takes more memory\n")
    assert "this run needs a GPU of 1.1 GB, and --gigabytes is 0.5: lower" in told.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_dry_run_says_it_of_a_large_model(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = ["train", "ladd_shapes", *options, "--dry-run", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(
        "`fewstep plan` with the same words says what it takes\n"
    )
    monkeypatch.setattr(planning, "SMALL", 0)
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()[-len(WHOLE) :]
    assert all(line.startswith(f"# {start}") for line, start in zip(said, WHOLE, strict=True))
    monkeypatch.setattr(planning, "choose_device", lambda _: torch.device("cuda"))
    for gib, says in ((80, "this GPU has 80.0 GiB, which is enough"),
                      (1, "warning: this GPU has 1.0 GiB, and the run wants 1.")):  # fmt: skip
        card = SimpleNamespace(total_memory=gib * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, card=card: card)
        assert main(words) == 0
        assert f"\n# {says}" in capsys.readouterr().out
    assert main([*words, "--engine", "plain", "--sharding.mode", "parameters"]) == 0
    assert "# no plan: sharding.mode is parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nothing"], "there is no recipe 'nothing'"),
        (["ladd_shapes", "--tokens", "0"], "--tokens must be >= 1, got 0"),
        (["ladd_shapes", "--model", "some/where"], "'some/where' is not on this machine"),
        (
            ["ladd_shapes", "--method.layers", "99"],
            "method.layers must lie in 0 .. 5 for this teacher",
        ),
        ([], "plan needs either a recipe or --config FILE"),
    ],
)
def test_mistakes(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    assert why in error(capsys)
